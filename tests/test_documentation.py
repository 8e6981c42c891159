"""The code in README and documentation is what it says: programs run, tests pass, fragments compile, options exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
import pytest

from discoro_trio._cli._discoro import discoro
from discoro_trio._cli._node import node

pytestmark = pytest.mark.example

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = [DOCS / "conformance.md", DOCS / "examples.md", *(DOCS / "_build").rglob("*.md")]
PAGES = [ROOT / "README.md", *sorted(set(DOCS.rglob("*.md")) - set(MADE))]
PROGRAMS = {"discoro": discoro, "discoronode": node}


def blocks(*languages: str) -> dict[str, str]:
    """Give each block of code in some languages by the page and the line where it stands."""
    block = re.compile(rf"^```(?:{'|'.join(languages)})\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in block.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found[f"{page.relative_to(ROOT).as_posix()}:{line}"] = match[1]
    return found


BLOCKS = blocks("python")
OTHERS = blocks("py")
"""Programs of other systems, which stand beside ours; tests/test_other_systems.py runs them."""
SCRIPTS = {place: script for place, script in blocks("sh").items() if place.startswith("docs/howto/")}
"""What is run for real, in this order; listings of other commands are `console`."""


def is_program(code: str) -> bool:
    return any(word in code for word in ("trio.run(", "__main__", "discoro.connect("))


def is_test(code: str) -> bool:
    return "async def test_" in code


def test_there_are_programs_tests_and_scripts_to_run() -> None:
    assert sum(map(is_program, BLOCKS.values())) >= 4
    assert sum(map(is_test, BLOCKS.values())) >= 5
    assert len(SCRIPTS) >= 4


def run(*command: str | Path, folder: Path) -> str:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=150)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not re.sub("^monitor: http://.*\n", "", ended.stderr), ended.stderr
    return ended.stdout


@pytest.mark.parametrize("place", [place for place, code in BLOCKS.items() if is_program(code)])
def test_a_program_runs_and_shows_something(place: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(BLOCKS[place], encoding="utf-8")
    assert run(sys.executable, program, folder=tmp_path).strip()


@pytest.mark.spec("B21")
@pytest.mark.parametrize("place", [place for place, code in BLOCKS.items() if is_test(code)])
def test_a_test_passes_in_a_project_of_its_own(place: str, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n", encoding="utf-8")
    (tmp_path / "test_sample.py").write_text(BLOCKS[place], encoding="utf-8")
    assert "1 passed" in run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path)


@pytest.mark.parametrize("place", OTHERS)
def test_a_program_of_another_system_compiles(place: str) -> None:
    compile(OTHERS[place], place, "exec")


@pytest.mark.parametrize("place", [p for p, code in BLOCKS.items() if not is_program(code) and not is_test(code)])
def test_a_fragment_compiles(place: str) -> None:
    lines = "".join(f"    {line}\n" for line in BLOCKS[place].splitlines())
    compile(f"async def fragment():\n{lines}", place, "exec")


SECRET = Path(".config", "discoro_trio", "secret")


@pytest.mark.parametrize("page", sorted({place.partition(":")[0] for place in SCRIPTS}))
def test_the_scripts_of_a_page_work_between_two_machines(page: str, tmp_path: Path) -> None:
    """Run them one after the other, where `ssh HOST COMMAND` runs the command with another folder as its home."""
    ssh, home = tmp_path / "ssh", tmp_path / "here"
    start = f'#!/bin/sh\nexport HOME="{tmp_path}/$1"; shift; mkdir -p "$HOME"; cd; exec sh -c "$*"\n'
    ssh.write_text(start, encoding="utf-8")
    ssh.chmod(0o755)
    (home / SECRET).parent.mkdir(parents=True)
    (home / SECRET).write_text("0f" * 32 + "\n", encoding="utf-8")
    (home / SECRET).chmod(0o600)
    path = os.pathsep.join([str(tmp_path), sysconfig.get_path("scripts"), os.environ["PATH"]])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DISCORO_", "XDG_"))}
    script = "set -eu\n" + "\n".join(code for place, code in SCRIPTS.items() if place.startswith(f"{page}:"))
    subprocess.run(["bash", "-c", script], env={**clean, "HOME": str(home), "PATH": path}, check=True, timeout=60)
    there = tmp_path / "worker1" / SECRET
    assert there.read_text() == (home / SECRET).read_text()
    assert len(there.read_text().splitlines()) == 1
    assert there.stat().st_mode & 0o777 == 0o600


def test_no_line_of_code_is_cut_off_in_a_browser() -> None:
    columns = 95  # of the theme's column for text
    shown = blocks("python", "py", "sh", "console", "yaml").items()
    assert [(place, line) for place, code in shown for line in code.splitlines() if len(line) > columns] == []


COMMANDS = [
    (place, command)
    for place, text in blocks("sh", "console").items()
    for command in re.findall(r"(?<![\w/.-])(?<!-o )((?:discoro|discoronode) [^|>;&'\n]*)", text.replace("\\\n", " "))
]


@pytest.mark.parametrize(("place", "command"), COMMANDS)
def test_every_command_and_option_of_a_listing_exists(place: str, command: str) -> None:
    name, *words = shlex.split(command, comments=True)
    program: click.Command = PROGRAMS[name]
    for word in words:
        known = {option for parameter in program.params for option in parameter.opts}
        if re.match("-[a-z-]", word):
            assert word.partition("=")[0] in known, f"{place}: {command}"
        elif isinstance(program, click.Group) and word in program.commands:
            program = program.commands[word]
