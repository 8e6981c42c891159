"""The printed Dockerfile makes an image whose container is a node: built and run by buildah, without a registry.

The base image stands in for `python:X.Y-slim`: a folder with the Python that runs the tests in /usr/local, to which the
programs and libraries of this machine are mounted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro

from .programs import ROOT, SECONDS, SECRET, Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.program, pytest.mark.slow, pytest.mark.spec("S107")]
USER = 4321
"""A user whom neither this machine nor the image has by name, as most with `docker run --user "$(id -u)"`."""
MOUNTED = [path for path in ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/usr/share") if Path(path).exists()]
LINKS = [path for path in ("/bin", "/sbin", "/lib", "/lib64") if Path(path).is_symlink()]
COPIED = ("/etc/passwd", "/etc/group", "/etc/login.defs", "/etc/ld.so.cache")
PYTHON = "/usr/local/bin/python"
PIP = f"""#!/bin/sh
PIP_NO_INDEX=1 exec {PYTHON} -m pip "$@"
"""


def make_base(folder: Path) -> Path:
    """Make the files of the base image, and return its Python."""
    venv.create(folder / "usr" / "local", symlinks=True, with_pip=True)
    scripts = folder / "usr" / "local" / "bin"
    (scripts / "pip").write_text(PIP, encoding="utf-8")
    for link in LINKS:
        folder.joinpath(link[1:]).symlink_to(Path(link).readlink())
    for copied in COPIED:
        there = folder / copied[1:]
        there.parent.mkdir(exist_ok=True)
        there.write_bytes(Path(copied).read_bytes())
    (folder / "tmp").mkdir(mode=0o1777)
    return scripts / "python"


class Images:
    """Images and containers that end with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        prefix = [] if sys.base_prefix == "/usr" else [sys.base_prefix]
        self._volumes = [f"--volume={path}:{path}:ro" for path in (*MOUNTED, *prefix)]
        self._storage = [f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"]

    def command(self, name: str, *arguments: str | Path, isolated: bool = False) -> list[str | Path]:
        """Return a command of buildah."""
        isolation = ["--isolation=chroot", *self._volumes] if isolated else []
        return ["buildah", *self._storage, name, *isolation, *arguments]

    def run(self, name: str, *arguments: str | Path, isolated: bool = False) -> str:
        """Run a command of buildah, and return the last line of its output."""
        done = subprocess.run(
            self.command(name, *arguments, isolated=isolated),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS * 4,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return (done.stdout.splitlines() or [""])[-1]


@contextmanager
def open_images(folder: Path) -> Iterator[Images]:
    """Remove containers and images with the block."""
    images = Images(folder)
    try:
        yield images
    finally:
        images.run("rm", "--all")
        images.run("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """Yield images of which one was built as the page about containers tells."""
    folder = tmp_path_factory.mktemp("image")
    python = make_base(folder / "base")
    context = folder / "context"
    context.mkdir()
    wheels = ["-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--wheel-dir", str(context), str(ROOT)]
    subprocess.run([str(python), *wheels], check=True, timeout=SECONDS * 4)
    printed = [sys.executable, "-m", "discoro_trio", "node", "--print_dockerfile"]
    (context / "Dockerfile").write_bytes(subprocess.run(printed, check=True, stdout=subprocess.PIPE).stdout)
    with open_images(folder) as found:
        empty = found.run("from", "scratch")
        found.run("add", empty, folder / "base", "/")
        base = f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim"
        found.run("commit", empty, base)
        found.run("build", "--pull-never", "--tag=discoronode", context, isolated=True)
        yield found


async def where() -> tuple[int, bool]:
    await trio.lowlevel.checkpoint()
    return os.getuid(), ROOT.exists()


def node_below(process: psutil.Process) -> psutil.Process:
    """Return the process of the container that its entry point has become."""
    commands = {one: one.cmdline()[:2] for one in process.children(recursive=True)}
    (found,) = (one for one, command in commands.items() if command == [PYTHON, "/usr/local/bin/discoronode"])
    return found


@asynccontextmanager
async def running_container(images: Images, *options: str, secret: Path) -> AsyncIterator[Program]:
    """Run the entry point of the image as `docker run` does, with the secret as a file."""
    container = images.run("from", "--pull-never", "discoronode")
    entry = images.run("inspect", "--format={{range .OCIv1.Config.Entrypoint}}{{.}}{{end}}", container)
    place = [f"--user={USER}", f"--volume={secret}:/run/secrets/discoro:ro", container]
    command = images.command("run", *place, "--", entry, *options, isolated=True)
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield Program(process)
    finally:
        with trio.CancelScope(shield=True):
            for one in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            process.kill()
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


async def test_a_container_of_the_image_is_a_node(images: Images, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET, encoding="utf-8")
    secret.chmod(0o600)
    os.chown(secret, USER, USER)
    options = ["--cpus=2", "--ip_addr=127.0.0.1", "--no_discover"]
    async with running_container(images, *options, secret=secret) as node:
        location = await node.location()
        async with (
            discoro.open_scheduler(secret=SECRET, ip_addr="127.0.0.1", discover=False, nodes=[location]),
            discoro.Computation([where]).schedule(servers=2) as computation,
        ):
            assert await computation.run_result(where) == (USER, False)
        node_below(psutil.Process(node.process.pid)).send_signal(signal.SIGTERM)
        assert await node.ended() == 0
