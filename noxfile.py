"""The commands of the project, the same for people and for CI.

Plain `nox` runs everything but what takes long or measures; `nox -l` lists all, `nox -s NAME` runs one.
A session for the tests of one mark exists as soon as a test carries that mark.
"""

from __future__ import annotations

import os
import shutil
import sys
from itertools import takewhile
from pathlib import Path

import nox

nox.needs_version = ">=2025.11"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.download_python = "never"
# A Python version that is not on this machine is reported as skipped; the one that runs nox is always there.
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = sorted({"3.11", "3.12", "3.13", RUNNING})
REPORTS = ROOT / ".nox" / "reports"
CODE = [
    name for name in ("discoro_trio", "tests", "examples", "benchmarks", "docs", "noxfile.py") if (ROOT / name).exists()
]
# A test with several of these marks is run by the first session only.
SESSIONS_BY_MARK = {
    "clusters": "clusters",
    "fuzz": "fuzz",
    "browser": "browser",
    "example": "examples",
    "fault": "faults",
    "network": "networks",
    "program": "programs",
}
# Many tests wait more than they compute; what measures or holds a browser is alone. `-- -n0` runs one at a time.
TWO_AT_ONCE = ("-n2", "--dist=worksteal")
ALONE = ("browser", "clusters", "fuzz", "soak")
EXTRAS = {
    "clusters": ("-e", ".[dask,kubernetes,ray]", "pycos"),
    "fuzz": tuple(nox.project.dependency_groups(PROJECT, "fuzz")),
}
FUZZ_SECONDS = "DISCORO_FUZZ_SECONDS"
UNMARKED = " and ".join(f"not {mark}" for mark in (*SESSIONS_BY_MARK, "soak"))
QUICK = f"{UNMARKED} and not slow"
# What differs between Python versions, and the layers below the client; the rest starts clusters for minutes.
CHEAP = (
    *(f"tests/{layer}" for layer in ("wire", "shipping", "link", "process", "cluster", "cli")),
    *(
        f"tests/client/test_{name}.py"
        for name in ("arrays", "components", "executor_cpython", "main_job", "map", "nursery", "remote_errors", "types")
    ),
)


def show_pyenv_versions() -> None:
    """Put the interpreters of pyenv on the path; its shims hide those that are not selected."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [str(path) for path in sorted(root.glob("versions/3.*/bin"))]
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), *folders])


def keep_bytecode() -> None:
    """Keep what Python compiles, beside the sources: the tests start a thousand interpreters that import the same."""
    os.environ["PYTHONPYCACHEPREFIX"] = str(ROOT / ".nox" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def has_tests_marked(mark: str) -> bool:
    """Whether a test of the project carries this mark."""
    paths = ROOT.glob("tests/**/test_*.py")
    return any(f"mark.{mark}" in path.read_text(encoding="utf-8") for path in paths)


def run_pytest(
    session: nox.Session,
    marks: str,
    *install_options: str,
    paths: tuple[str, ...] = (),
    share: tuple[str, ...] = TWO_AT_ONCE,
) -> None:
    """Install the project with what its tests need and run those of some marks; `--` passes others than the paths."""
    session.install("-e", ".[test]", *install_options)
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = f"--junitxml={REPORTS / session.name}.xml"
    session.run("pytest", report, *share, "-m", marks, *(session.posargs or paths))


def define_session_for(mark: str, name: str, *, default: bool = True) -> None:
    """Define the session of the tests that carry one mark."""

    @nox.session(name=name, default=default)
    def marked_tests(session: nox.Session) -> None:
        if mark == "fuzz" and session.posargs[:1] and session.posargs[0].isdigit():
            session.env[FUZZ_SECONDS] = session.posargs.pop(0)  # `nox -s fuzz -- SECONDS`: other inputs, for so long
        earlier = takewhile(lambda other: other != mark, SESSIONS_BY_MARK) if mark in SESSIONS_BY_MARK else ()
        marks = " and not ".join([mark, *({"soak"} - {mark}), *earlier])
        install = EXTRAS.get(mark, ())
        share: tuple[str, ...] = () if mark in ALONE else TWO_AT_ONCE
        if mark == "soak":
            share = ("-s", "-o", "faulthandler_timeout=0")  # they take longer than a test that hangs may
        run_pytest(session, marks, *install, share=share)

    marked_tests.__doc__ = f"Run the tests that are marked {mark}."


show_pyenv_versions()
keep_bytecode()


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the direction of imports."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo")


@nox.session(venv_backend="none")
def structure(session: nox.Session) -> None:
    """Print the figures of the source."""
    session.run(sys.executable, "-m", "tests._project.structure")


@nox.session(venv_backend="none")
def conformance(session: nox.Session) -> None:
    """Write docs/conformance.md and print the rows that no test names."""
    session.run(sys.executable, "-m", "tests._project.conformance")


@nox.session(default=False)
def rows(session: nox.Session) -> None:
    """Take the behaviour of each row away, one at a time, and run the tests that must fail; also for known mistakes."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests._project.patch_runs", *session.posargs)


@nox.session
def rows_of_today(session: nox.Session) -> None:
    """Run a tenth of what `rows` runs, others on each day; fail if no test notices a patch."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests._project.patch_runs", "--tenth")


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Make small changes to the code and list those that no quick test notices; `--` takes paths and --minutes."""
    session.install("-e", ".[test]", *nox.project.dependency_groups(PROJECT, "mutants"))
    session.run("python", "-m", "tests._project.mutants", *session.posargs)


@nox.session
def mutants_of_change(session: nox.Session) -> None:
    """Do the same to the lines of the last commit, for a minute."""
    session.install("-e", ".[test]", *nox.project.dependency_groups(PROJECT, "mutants"))
    session.run("python", "-m", "tests._project.mutants", "--since", "HEAD~1", "--minutes", "1")


@nox.session
def types(session: nox.Session) -> None:
    """Check all types, and that everything public has one."""
    session.install("-e", ".[test]", "nox", *nox.project.dependency_groups(PROJECT, "types"))
    session.run("mypy", *CODE)
    session.run("pyright", "--verifytypes", "discoro_trio", "--ignoreexternal")
    session.run("pyright", "tests/client/test_types.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-b", "html", "docs", "docs/_build/html")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests: all on the Python that runs nox, those that are cheap on the others."""
    if session.python == RUNNING:
        run_pytest(session, UNMARKED)
    else:
        run_pytest(session, QUICK, paths=CHEAP)


for mark_of_session, name_of_session in SESSIONS_BY_MARK.items():
    if has_tests_marked(mark_of_session):
        define_session_for(mark_of_session, name_of_session)
if has_tests_marked("soak"):
    define_session_for("soak", "soak", default=False)


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist, look into both, and use them as strangers do: installed, far from the sources."""
    session.install(*nox.project.dependency_groups(PROJECT, "package"))
    folder = Path(session.create_tmp()).resolve()
    dist, clean = folder / "dist", folder / "clean"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))  # the wheel is built from the sdist
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    session.run("python", "-m", "tests._project.package", str(dist))
    session.run("python", "-m", "venv", "--clear", str(clean))
    session.run(str(clean / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", str(wheel), external=True)
    shutil.unpack_archive(sdist, dist, filter="data")
    session.chdir(dist)
    example = sdist.name.removesuffix(".tar.gz") + "/examples/corpus.py"
    for program, *arguments in (
        ["discoronode", "--help"],
        ["discoro", "--help"],
        ["python", "-m", "discoro_trio", "doctor", "--help"],
        ["python", example, "--files", "8"],
    ):
        session.run(str(clean / "bin" / program), *arguments, env={"HOME": str(folder)}, external=True, silent=True)


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Look for known weaknesses in all that constraints.txt names; asks the database of PyPI, so by name only."""
    session.install(*nox.project.dependency_groups(PROJECT, "audit"))
    # Strict: what the database does not know, or cannot be asked about, is no pass.
    session.run("pip-audit", "--strict", "--requirement", "constraints.txt", "--no-deps", *session.posargs)


@nox.session(default=False)
def constrained(session: nox.Session) -> None:
    """Run the quick tests with exactly what constraints.txt names."""
    run_pytest(session, QUICK, "--constraint", "constraints.txt")


@nox.session(default=False, venv_backend="uv")
def oldest(session: nox.Session) -> None:
    """Run the quick tests with the oldest dependencies that pyproject.toml allows."""
    run_pytest(session, QUICK, "--resolution", "lowest-direct")


if (ROOT / "benchmarks" / "__main__.py").exists():

    @nox.session(default=False)
    def bench(session: nox.Session) -> None:
        """Measure this project, the floor and other systems; what follows `--` goes to the program."""
        session.install("-e", ".[bench]")
        session.run("python", "-m", "benchmarks", *session.posargs)
