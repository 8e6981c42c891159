"""How a host makes an environment with `uv`: the commands, run by a shell of this machine with a stand-in for `uv`."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from discoro_trio.launch import Ssh
from discoro_trio.launch._environment import make_environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.spec("B36")

UV = """#!/bin/sh
echo "$@" >>"$HOME/calls"
for last; do :; done
case "$1" in
venv) mkdir -p "$last/bin"; printf '#!/bin/sh\\n' >"$last/bin/python"; chmod +x "$last/bin/python" ;;
pip) cp "$last" "$HOME/requirements"; exit "$(cat "$HOME/status" 2>/dev/null || echo 0)" ;;
esac
"""
LOCKED = "a==1 ; python_version < '3.12'\nb==2  # $HOME `id` \"\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "uv").write_text(UV)
    (tmp_path / "uv").chmod(0o755)
    return tmp_path


def start(home: Path, commands: str, path: str | None = None) -> subprocess.Popen[str]:
    environment = {"HOME": str(home), "PATH": f"{home}:/usr/bin:/bin" if path is None else path}
    return subprocess.Popen(
        ["sh", "-c", f'{commands}\necho "made $env"'],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_an_environment_is_made_once_for_equal_requirements_and_python(home: Path) -> None:
    commands = make_environment(LOCKED, "3.11", ["--find-links", "/a folder"])
    status, output, errors = finish(start(home, commands))
    assert status == 0, errors
    folder = output.splitlines()[-1].removeprefix("made ")
    assert folder.startswith(f"{home}/.cache/discoro_trio/environments/")
    assert (home / "requirements").read_text() == LOCKED
    calls = (home / "calls").read_text().splitlines()
    assert calls[0].startswith("venv -q --relocatable --python 3.11 ")
    assert " --find-links /a folder -r " in calls[1]
    assert finish(start(home, commands))[1] == f"made {folder}\n"
    assert len((home / "calls").read_text().splitlines()) == 2
    for other in (
        make_environment("c==3", "3.11", ["--find-links", "/a folder"]),
        make_environment(LOCKED, "3.12", ["--find-links", "/a folder"]),
        make_environment(LOCKED, "3.11", []),
    ):
        assert folder not in finish(start(home, other))[1]


def test_a_failure_leaves_nothing_and_is_tried_again(home: Path) -> None:
    commands = make_environment(LOCKED, "3.11", [])
    (home / "status").write_text("3")
    assert finish(start(home, commands))[0] == 3
    assert list((home / ".cache/discoro_trio/environments").iterdir()) == []
    (home / "status").unlink()
    assert finish(start(home, commands))[0] == 0


def test_two_nodes_of_one_host_can_make_it_at_once(home: Path) -> None:
    commands = make_environment(LOCKED, "3.11", [])
    results = [finish(one) for one in [start(home, commands) for _ in range(5)]]
    assert [status for status, _, _ in results] == [0] * 5, results
    assert len({output.splitlines()[-1] for _, output, _ in results}) == 1
    assert len(list((home / ".cache/discoro_trio/environments").iterdir())) == 1


def test_a_missing_uv_is_named(home: Path) -> None:
    status, _, errors = finish(start(home, make_environment(LOCKED, "3.11", []), path="/usr/bin:/bin"))
    assert status == 127
    assert "uv is not installed on this host" in errors


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        Ssh(["host"], requirements=tmp_path / "none")
    with pytest.raises(ValueError, match="uv_options needs requirements"):
        Ssh(["host"], uv_options=["--offline"])
    with pytest.raises(TypeError, match="requirements must be a path"):
        Ssh(["host"], requirements=1)  # type: ignore[arg-type]
