"""What the doctor finds, and what it advises."""

from __future__ import annotations

import resource
import socket
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from discoro_trio import AuthenticationError, DiscoroError, PeerDisconnected, VersionMismatch
from discoro_trio._cli import _doctor
from discoro_trio._cli._doctor import (
    BAD,
    GOOD,
    WARNING,
    _advice,
    check_folder,
    check_groups,
    check_limits,
    check_network,
    check_ports,
)

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = dict.fromkeys(
    (
        "ip_addr",
        "ext_ip_addr",
        "udp_port",
        "no_discover",
        "name",
        "secret",
        "secret_file",
        "certfile",
        "keyfile",
        "cafile",
    )
)


def test_few_open_files_bring_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _limit: (256, 1024))
    check = next(check_limits())
    assert check.level == WARNING
    assert "ulimit -n 1024" in check.advice


def test_a_folder_that_is_no_control_group_is_a_problem(tmp_path: Path) -> None:
    check = check_groups([str(tmp_path)])
    assert check.level == BAD
    assert "--cgroup" in check.advice


def test_a_folder_is_looked_at(tmp_path: Path) -> None:
    (there,) = check_folder(str(tmp_path))
    (missing,) = check_folder(str(tmp_path / "missing"))
    assert there.level == GOOD
    assert missing.level == BAD


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        (check,) = check_ports({"tcp_ports": str(port)})
    assert str(port) in check.text
    assert "--tcp_ports" in check.advice


async def test_a_secret_that_others_can_read_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("ab" * 32)
    file.chmod(0o644)
    (check,) = await check_network({**NOTHING, "secret_file": str(file), "ip_addr": "127.0.0.1", "peer": ()})
    assert check.level == BAD
    assert "--secret_file" in check.advice


async def test_a_peer_that_cannot_be_reached_is_a_problem() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    options = {**NOTHING, "secret": "ab" * 32, "ip_addr": "127.0.0.1", "udp_port": free, "peer": (f"127.0.0.1:{free}",)}
    found = await check_network(options)
    assert found[-1].level == BAD
    assert found[-1].text == f"--peer 127.0.0.1:{free}: 127.0.0.1:{free} cannot be reached: connection refused"
    assert "nothing listens at that port" in found[-1].advice


async def test_a_name_that_does_not_exist_hides_no_other_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "_LOOK_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    peers = ("no host", f"127.0.0.1:{free}")
    found = await check_network(
        {**NOTHING, "secret": "ab" * 32, "ip_addr": "127.0.0.1", "udp_port": free, "peer": peers}
    )
    bad = [one.text for one in found if one.level == BAD]
    assert len(bad) == 2
    assert bad[0].startswith("--peer: 'no host' is not an address or host name: ")
    assert bad[1].startswith(f"--peer 127.0.0.1:{free}: ")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (AuthenticationError("no"), "`discoro secret show`"),
        (VersionMismatch("no"), "minor version of Python"),
        (PeerDisconnected("connection refused"), "nothing listens at that port"),
        (PeerDisconnected("no answer in 10 s"), "--ext_ip_addr"),
    ],
)
def test_the_advice_follows_the_cause(error: DiscoroError, advice: str) -> None:
    assert advice in _advice(error)


async def test_a_host_at_which_nothing_answers_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "_LOOK_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    options = {**NOTHING, "secret": "ab" * 32, "ip_addr": "127.0.0.1", "udp_port": free, "peer": ("127.0.0.1",)}
    found = await check_network(options)
    assert (found[-1].level, found[-1].text) == (BAD, "--peer 127.0.0.1: no process has answered there")


def test_colours_can_be_switched_off() -> None:
    result = CliRunner().invoke(_doctor.doctor, ["--dest_path", "/nowhere"], color=True, env={"NO_COLOR": "1"})
    assert "\x1b" not in result.output
