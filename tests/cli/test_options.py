"""The options of the programs: read from the command line, the environment and a file; refused in one line."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from discoro_trio import config
from discoro_trio._cli import _discoro, _node, run_discoro, run_node, run_package
from discoro_trio._cli._discoro import discoro
from discoro_trio._cli._hours import Hours
from discoro_trio._cli._node import node
from discoro_trio._link import pauses, secret_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import click

    Row = tuple[Callable[[list[str]], None], str, str, Any, str]
    Capsys = pytest.CaptureFixture[str]

SHARED: list[tuple[str, str, Any, str]] = [
    ("ip_addr", "10.0.0.1", "10.0.0.1", "no-such-host.invalid"),
    ("ext_ip_addr", "203.0.113.7", "203.0.113.7", ""),
    ("tcp_ports", "5000-5002,6000", "5000-5002,6000", "5000-4000"),
    ("udp_port", "5100", 5100, "70000"),
    ("name", "one", "one", ""),
    ("secret", "a passphrase", "a passphrase", ""),
    ("secret_file", "/etc/secret", "/etc/secret", "/no/such/file"),
    ("certfile", "/etc/cert.pem", "/etc/cert.pem", "/no/such/file"),
    ("keyfile", "/etc/key.pem", "/etc/key.pem", "/no/such/file"),
    ("cafile", "/etc/ca.pem", "/etc/ca.pem", "/no/such/file"),
    ("dest_path", "/srv/work", "/srv/work", "/proc/nowhere"),
    ("max_file_size", "100M", 100 * 1024**2, "a lot"),
    ("ping_interval", "5", 5.0, "0"),
    ("min_pulse_interval", "2", 2.0, "-1"),
    ("max_pulse_interval", "200", 200.0, "1"),
    ("msg_timeout", "3", 3.0, "soon"),
    ("log_format", "json", "json", "xml"),
]
"""Name, what is written, what it means, and a value that cannot work ("" for none)."""

NODE: list[tuple[str, str, Any, str]] = [
    *SHARED,
    ("cpus", "-1", -1, "10000"),
    ("max_memory", "2G", 2 * 1024**3, "a lot"),
    ("max_files", "500", 500, "-1"),
    ("max_processes", "50", 50, "-1"),
    ("user", "nobody", "nobody", "no-such-user"),
    ("users", "one,two", ["one", "two"], "no-such-user"),
    ("serve", "3", 3, "0"),
    ("drain", "60", 60.0, "-1"),
    ("service_start", "08:30", "08:30", "25:00"),
    ("service_stop", "18:00", "18:00", "six"),
    ("service_end", "19:00", "19:00", "7pm"),
]
DISCORO: list[tuple[str, str, Any, str]] = [
    *SHARED,
    ("zombie_period", "60", 60.0, "-1"),
    ("pulse_interval", "20", 20.0, "0"),
    ("http_port", "0", 0, "70000"),
    ("http_host", "10.0.0.1", "10.0.0.1", "no-such-host.invalid"),
    ("http_token", "a word", "a word", ""),
    ("poll_sec", "5", 5.0, "0"),
    ("document_root", "/etc", "/etc", "/no/such/folder"),
    ("https_certfile", "/etc/passwd", "/etc/passwd", "/no/such/file"),
    ("https_keyfile", "/etc/passwd", "/etc/passwd", "/no/such/file"),
    ("event_file", "/srv/events.jsonl", "/srv/events.jsonl", "/etc"),
]
EVERY = [(run_node, *row) for row in NODE] + [(run_discoro, *row) for row in DISCORO]
FLAGS = [(run_node, name) for name in ("debug", "daemon", "clean", "no_discover")]
FLAGS += [(run_discoro, name) for name in ("debug", "daemon", "no_discover", "settle", "read_only")]
REPEATED = [(run_node, "peer"), (run_node, "cgroup"), (run_discoro, "node"), (run_discoro, "peer")]


SCRIPTS = sysconfig.get_path("scripts")
ABOUT_THEMSELVES = {"config", "save_config", "version", "show_completion", "print_systemd", "print_dockerfile"}
"""Those that do something else than to run a node or a scheduler."""


@pytest.mark.parametrize(("program", "command"), [(run_node, node), (run_discoro, discoro)])
def test_no_option_is_left_out_here(program: Callable[[list[str]], None], command: click.Command) -> None:
    tested = {name for one, name, *_ in [*EVERY, *FLAGS, *REPEATED] if one is program}
    assert {parameter.name for parameter in command.params} - ABOUT_THEMSELVES == tested - {"peer"} | (
        {"peer"} if command is node else set()
    )


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISCORO_SECRET", raising=False)
    for name in ("MinPulseInterval", "MaxPulseInterval", "MsgTimeout", "ping_interval"):
        monkeypatch.setattr(config, name, getattr(config, name))


def status_of(program: Callable[[list[str]], None], *arguments: str) -> Any:
    """Run a program that ends by itself; give its status."""
    with pytest.raises(SystemExit) as ended:
        program(list(arguments))
    return ended.value.code


def read(program: Callable[[list[str]], None], capsys: Capsys, *arguments: str) -> dict[str, Any]:
    """Give the options as the program has read them."""
    assert status_of(program, *arguments, "--save_config", "-") == 0
    return tomllib.loads(capsys.readouterr().out)


@pytest.mark.spec("S19", "S20", "S21", "S22", "S23", "S24", "S25", "S26", "S27", "S37", "S39")
@pytest.mark.parametrize("row", EVERY)
def test_every_option_is_read_with_either_spelling(row: Row, capsys: Capsys) -> None:
    program, name, text, value, _ = row
    for spelt in (name, name.replace("_", "-")):
        assert read(program, capsys, f"--{spelt}", text) == {name: value}


@pytest.mark.parametrize("row", [row for row in EVERY if row[1] != "secret"])
def test_every_option_is_read_from_the_environment(row: Row, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    program, name, text, value, _ = row
    monkeypatch.setenv(f"DISCORO_{name.upper()}", text)
    assert read(program, capsys) == {name: value}


class Opened(BaseException):
    """Ends a program where it would open its scheduler, node or monitor."""


@pytest.mark.spec("S19", "S37", "S39", "S82")
@pytest.mark.parametrize(
    ("program", "block", "arguments", "expected"),
    [
        (run_discoro, (_discoro, "open_scheduler"), [], {"zombie_period": 1800, "shared": True, "discover": True}),
        (run_discoro, (_discoro, "open_scheduler"), ["--zombie_period", "0"], {"zombie_period": None}),
        (run_discoro, (_discoro, "open_scheduler"), ["--zombie_period", "7.5"], {"zombie_period": 7.5}),
        (run_discoro, (_discoro, "open_scheduler"), ["--pulse_interval", "12"], {"pulse_interval": 12}),
        (run_discoro, (_discoro, "open_scheduler"), ["--no_discover"], {"discover": False}),
        (run_node, (_node, "open_node"), [], {"cpus": 0, "serve": None, "discover": True, "max_file_size": None}),
        (run_node, (_node, "open_node"), ["-c", "1"], {"cpus": 1}),
        (run_node, (_node, "open_node"), ["--cpus", "-1"], {"cpus": -1}),
        (run_node, (_node, "open_node"), ["--serve", "3"], {"serve": 3}),
        (run_node, (_node, "open_node"), ["--max_file_size", "2K"], {"max_file_size": 2048}),
    ],
)
def test_what_a_program_opens_with_and_without_an_option(
    program: Callable[[list[str]], None],
    block: tuple[object, str],
    arguments: list[str],
    expected: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: dict[str, object] = {}

    def opens(**given: object) -> None:
        opened.update(given)
        raise Opened

    monkeypatch.setattr(*block, opens)
    with pytest.raises((Opened, BaseExceptionGroup)):
        program([*arguments, "--ip_addr", "127.0.0.1"])
    expected = {"ip_addr": "127.0.0.1", **expected}
    assert {name: opened.get(name) for name in expected} == expected


@pytest.mark.spec("S29")
@pytest.mark.parametrize("row", EVERY)
def test_every_option_is_saved_and_read_from_the_file(row: Row, capsys: Capsys, tmp_path: Path) -> None:
    program, name, text, value, _ = row
    file = tmp_path / "options.toml"
    assert status_of(program, f"--{name}", text, "--save_config", str(file)) == 0
    assert file.stat().st_mode & 0o077 == 0
    assert read(program, capsys, "--config", str(file)) == {name: value}


@pytest.mark.parametrize("program", [run_node, run_discoro])
@pytest.mark.option("discoronode --save_config", "discoro --save_config")
def test_a_file_that_others_could_read_is_closed_to_them_before_options_are_saved_in_it(
    program: Callable[[list[str]], None], tmp_path: Path
) -> None:
    file = tmp_path / "options.toml"
    file.write_text("longer than what comes\n" * 9, encoding="ascii")
    file.chmod(0o644)
    assert status_of(program, "--secret", "of the test", "--save_config", str(file)) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text(encoding="ascii") == 'secret = "of the test"\n'


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("program", "name", "wrong"), [(program, name, wrong) for program, name, _, _, wrong in EVERY if wrong]
)
def test_a_wrong_value_is_one_line_that_names_the_option(
    program: Callable[[list[str]], None], name: str, wrong: str, capsys: Capsys
) -> None:
    more = {
        "keyfile": ["--certfile", "/no/such/file"],
        "max_pulse_interval": ["--min_pulse_interval", "2"],
        "http_host": ["--http_port", "0", "--http_token", "one of many letters"],
    }
    arguments = ["--ip_addr", "127.0.0.1", "--no_discover", f"--{name}", wrong, *more.get(name, [])]
    assert status_of(program, *arguments) == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    # Where a monitor cannot listen is known when the scheduler does, and has logged that.
    (line,) = [line for line in shown.splitlines() if "listens at" not in line]
    named = "certfile" if name == "keyfile" else name
    assert f"--{named}" in line


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--http_host", "0.0.0.0"], "--http_token"),  # noqa: S104 - it is refused
        (["--https_keyfile", "/etc/passwd"], "--https_certfile"),
        (["--https_certfile", "/etc/passwd"], "--https_certfile"),
    ],
)
def test_what_the_monitor_cannot_do_is_said_with_the_names_of_the_program(
    arguments: list[str], named: str, capsys: Capsys
) -> None:
    program = ["--ip_addr", "127.0.0.1", "--no_discover", "--http_port", "0"]
    assert status_of(run_discoro, *program, *arguments) == 2
    assert f"discoro: {named}: " in capsys.readouterr().err


@pytest.mark.spec("S28")
@pytest.mark.parametrize(("program", "name"), FLAGS)
def test_every_flag_is_read(program: Callable[[list[str]], None], name: str, capsys: Capsys) -> None:
    assert read(program, capsys, f"--{name.replace('_', '-')}") == {name: True}


@pytest.mark.spec("S38")
@pytest.mark.parametrize(("program", "name"), REPEATED)
def test_what_may_be_given_often_is_kept_in_order(
    program: Callable[[list[str]], None], name: str, capsys: Capsys
) -> None:
    (found,) = read(program, capsys, f"--{name}", "one:5000", f"--{name}", "two").values()
    assert found == ["one:5000", "two"]


@pytest.mark.fault("F24")
@pytest.mark.parametrize(("program", "name"), REPEATED)
def test_an_unknown_host_or_folder_is_named(program: Callable[[list[str]], None], name: str, capsys: Capsys) -> None:
    assert status_of(program, "--ip_addr", "127.0.0.1", f"--{name}", "no-such-host.invalid") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no-such-host.invalid" in line


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "options.toml"
    file.write_text('name = "of the file"\ncpus = 1\nudp-port = 5\n')
    monkeypatch.setenv("DISCORO_NAME", "of the environment")
    monkeypatch.setenv("DISCORO_CPUS", "2")
    found = read(run_node, capsys, "--config", str(file), "--name", "of the line")
    assert found == {"name": "of the line", "cpus": 2, "udp_port": 5}


@pytest.mark.parametrize("text", ["nonsense = 1", "name = ", 'save_config = "x"'])
def test_a_file_that_cannot_be_used_is_named(text: str, capsys: Capsys, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text(text)
    assert status_of(run_node, "--config", str(file)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file) in line


@pytest.mark.spec("S26")
def test_a_secret_on_the_command_line_brings_a_warning(capsys: Capsys) -> None:
    assert status_of(run_node, "-s", "hush", "--ip_addr", "203.0.113.1") == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert "every user of this machine" in warning
    assert "hush" not in warning
    assert "which others can guess" in warning
    assert "--ip_addr" in error


@pytest.mark.parametrize("secret", ["a", "aaaaaaaaaaaa", "ababababababab"])
def test_a_weak_secret_of_the_environment_brings_a_warning(
    capsys: Capsys, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("DISCORO_SECRET", secret)
    secret_file.warned_of.clear()
    assert status_of(run_node, "--ip_addr", "203.0.113.1") == 2
    warning, _error = capsys.readouterr().err.splitlines()
    assert "DISCORO_SECRET" in warning
    assert "others can guess" in warning
    assert len(secret) == 1 or secret not in warning


@pytest.mark.parametrize("secret", ["correct horse", "0" * 64])
def test_a_long_secret_brings_none(capsys: Capsys, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("DISCORO_SECRET", secret)
    assert status_of(run_node, "--ip_addr", "203.0.113.1") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_help_shows_the_options_in_groups(capsys: Capsys) -> None:
    assert status_of(run_node, "--help") == 0
    text = capsys.readouterr().out
    groups = [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups == [
        "Servers",
        "Network",
        "Security",
        "Files",
        "Times",
        "Service",
        "Output",
        "Configuration",
        "Other",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", [run_node, run_discoro])
@pytest.mark.option("discoronode --show_completion", "discoro --show_completion")
def test_shells_are_told_how_to_complete(program: Callable[[list[str]], None], shell: str, capsys: Capsys) -> None:
    assert status_of(program, "--show_completion", shell) == 0
    assert "_COMPLETE" in capsys.readouterr().out


@pytest.mark.spec("S107")
@pytest.mark.parametrize(
    ("program", "option", "expected"),
    [
        (run_node, "--print_dockerfile", 'ENTRYPOINT ["discoronode"]'),
        (run_node, "--print_dockerfile", f"FROM python:{sys.version_info.major}.{sys.version_info.minor}-slim\n"),
        (run_node, "--print_systemd", f"ExecStart={SCRIPTS}/discoronode --clean\n"),
        (run_node, "--print_systemd", "\nDelegate=memory pids\n"),
        (run_discoro, "--print-systemd", f"ExecStart={SCRIPTS}/discoro\n"),
    ],
)
@pytest.mark.option("discoronode --print_systemd", "discoronode --print_dockerfile", "discoro --print_systemd")
def test_packaged_files_are_printed(
    program: Callable[[list[str]], None], option: str, expected: str, capsys: Capsys
) -> None:
    assert status_of(program, option) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize(("program", "name"), [(run_node, "discoronode"), (run_discoro, "discoro")])
def test_systemd_accepts_the_printed_unit(
    program: Callable[[list[str]], None], name: str, capsys: Capsys, tmp_path: Path
) -> None:
    assert status_of(program, "--print_systemd") == 0
    unit = tmp_path / f"{name}.service"
    unit.write_text(capsys.readouterr().out, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert name not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_the_module_is_either_program(capsys: Capsys) -> None:
    assert status_of(run_package, "node", "--save_config", "-", "--cpus", "1") == 0
    assert status_of(run_package, "--save_config", "-", "--zombie_period", "1") == 0
    assert capsys.readouterr().out == "cpus = 1\nzombie_period = 1.0\n"


def test_hours_that_end_need_a_beginning(capsys: Capsys) -> None:
    assert status_of(run_node, "--service_stop", "10:00") == 2
    assert "--service_start" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "stop", "end", "in_order"),
    [
        ("08:00", "18:00", "19:00", True),
        ("08:00", "18:00", "18:00", True),
        ("08:00", "18:00", "17:00", False),
        ("19:00", "07:00", "08:00", True),
        ("19:00", "07:00", "23:00", False),
        ("19:00", "23:00", "07:00", True),
    ],
)
def test_an_end_of_service_before_its_stop_is_refused(
    start: str,
    stop: str,
    end: str,
    in_order: bool,  # noqa: FBT001 - a table
    capsys: Capsys,
) -> None:
    assert Hours(start, stop, end).are_in_order is in_order
    if not in_order:
        assert status_of(run_node, "--service_start", start, "--service_stop", stop, "--service_end", end) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "--service_end" in line
        assert "--service_stop" in line


@pytest.mark.parametrize("program", [run_node, run_discoro])
def test_a_folder_for_working_folders_that_is_missing_is_not_made(
    program: Callable[[list[str]], None], capsys: Capsys, tmp_path: Path
) -> None:
    missing = tmp_path / "missing" / "folder"
    assert status_of(program, "--dest_path", str(missing)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--dest_path" in line
    assert "does not exist" in line
    assert not missing.parent.exists()


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 1, 1, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "now", "begins"),
    [
        (Hours("08:00", "18:00"), at(7), at(8)),
        (Hours("08:00", "18:00"), at(9), at(9)),
        (Hours("08:00", "18:00"), at(19), at(8).replace(day=2)),
        (Hours("22:00", "06:00"), at(23), at(23)),
        (Hours("22:00", "06:00"), at(5), at(5)),
        (Hours("22:00", "06:00"), at(7), at(22)),
        (Hours("08:00"), at(7), at(7)),
    ],
)
def test_service_begins_at_once_or_at_its_hour(hours: Hours, now: datetime, begins: datetime) -> None:
    assert hours.begins(now) == begins


def test_what_still_runs_is_ended_after_the_hour_of_the_last_computation() -> None:
    hours = Hours("08:00", "18:00", "19:30")
    assert hours.stops(at(9)) == at(18)
    assert hours.ends(at(9)) == at(19, 30)


def test_without_an_hour_to_stop_the_end_is_that_hour() -> None:
    assert Hours("08:00", None, "19:00").stops(at(9)) == at(19)


@pytest.mark.spec("B07")
@pytest.mark.option("discoro secret rotate --secret_file")
def test_the_secret_is_shown_by_its_fingerprint_and_changed_in_three_steps(capsys: Capsys, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("ab" * 32)
    file.chmod(0o600)
    for arguments in (["show"], ["rotate", "stage", "cd" * 32], ["rotate", "switch"], ["rotate", "drop"]):
        assert status_of(run_discoro, "secret", *arguments, "--secret-file", str(file)) == 0
    assert "ab" * 32 not in capsys.readouterr().out
    assert file.read_text().strip() == "cd" * 32
    assert status_of(run_discoro, "secret", "rotate", "switch", "--secret_file", str(file)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "stage" in line


@pytest.mark.option("discoro secret show --secret_file", "discoro secret show --reveal", "discoro secret show --staged")
def test_a_staged_secret_is_not_printed_and_its_hint_puts_it_on_no_command_line(capsys: Capsys, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("ab" * 32)
    file.chmod(0o600)
    assert status_of(run_discoro, "secret", "rotate", "stage", "--secret_file", str(file)) == 0
    shown = capsys.readouterr().out
    staged = secret_file.show(file).next
    assert staged is not None
    assert staged not in shown
    hint = f"discoro secret show --reveal --staged --secret_file {file} | ssh HOST discoro secret rotate stage -"
    assert hint in shown
    assert status_of(run_discoro, "secret", "show", "--reveal", "--staged", "--secret_file", str(file)) == 0
    assert capsys.readouterr().out.strip() == staged


@pytest.mark.spec("S50", "S53")
@pytest.mark.parametrize("program", [run_node, run_discoro])
def test_times_become_the_settings_of_the_process(program: Callable[[list[str]], None]) -> None:
    times = {"msg_timeout": 3.0, "ping_interval": 4.0, "min_pulse_interval": 5.0, "max_pulse_interval": 60.0}
    arguments = [text for name, value in times.items() for text in (f"--{name}", str(value))]
    assert status_of(program, *arguments, "--ip_addr", "203.0.113.1") == 2
    assert config.MsgTimeout == 3
    assert config.MinPulseInterval == 5
    assert config.MaxPulseInterval == 60
    assert max(itertools.islice(pauses(), 20)) <= 4 * 1.25
