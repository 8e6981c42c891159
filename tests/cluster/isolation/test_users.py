"""As whom servers run, and what keeps leases that run as different users apart."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cluster._lease_terms import LeaseTerms, QueueEntry
from discoro_trio._cluster.isolation import _users
from discoro_trio._cluster.isolation._users import User, Users, check_users
from discoro_trio._cluster.node._holding import Holding
from discoro_trio._link import OptionError
from tests.cli.programs import output
from tests.cluster.isolation.users import ONE, TWO, WHEEL, running_node
from tests.test_ports import SECRET, UDP_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

SECONDS = 60
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run servers as other users")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that everybody can enter, unlike that of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def scheduler() -> AbstractAsyncContextManager[discoro.Scheduler]:
    """Open a private scheduler that finds the node."""
    return discoro.open_scheduler(ip_addr="127.0.0.1", udp_port=UDP_PORT, secret=SECRET)


def scheduled(*components: object) -> AbstractAsyncContextManager[discoro.Computation]:
    """Schedule a computation that uses one server."""
    one = [discoro.NodeAllocation(cpus=1)]
    return discoro.Computation(components, node_allocations=one).schedule()


def who() -> dict[str, Any]:
    here = Path.cwd().stat()
    Path("own").write_text("mine", encoding="ascii")
    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "home": (os.environ["HOME"], os.environ["USER"], os.environ["LOGNAME"]),
        "folder": (here.st_uid, here.st_gid, stat.S_IMODE(here.st_mode)),
        "shipped": Path("shipped").read_text(encoding="ascii"),
        "file": Path("own").stat().st_uid,
    }


async def who_without_a_thread() -> tuple[int, int, int]:
    return os.getresuid()


@as_root
@pytest.mark.slow
@pytest.mark.spec("S106")
@pytest.mark.option("discoronode --user")
async def test_servers_run_as_the_user_that_is_named_and_have_its_groups_home_and_folder(folder: Path) -> None:
    (folder / "shipped").write_text("a component", encoding="ascii")
    with trio.fail_after(SECONDS):
        async with (
            running_node(folder, "--cpus", "1", "--user", "one"),
            scheduler(),
            scheduled(who, who_without_a_thread, folder / "shipped") as computation,
        ):
            assert await computation.run_result(who) == {
                "uids": (ONE, ONE, ONE),
                "gids": (ONE, ONE, ONE),
                "groups": [ONE, WHEEL],
                "home": ("/home/one", "one", "one"),
                "folder": (ONE, ONE, 0o700),
                "shipped": "a component",
                "file": ONE,
            }
            assert await computation.run_result(who_without_a_thread) == (ONE, ONE, ONE)


def attempts(secret: str) -> dict[str, str]:
    """Try, on a server, what only root may do."""
    fork_server = os.getppid()
    said: dict[str, str] = {}
    tries: dict[str, Callable[[], object]] = {
        "secret": lambda: Path(secret).read_bytes(),
        "memory": lambda: Path(f"/proc/{fork_server}/maps").read_bytes(),
        "environment": lambda: Path(f"/proc/{fork_server}/environ").read_bytes(),
        "signal": lambda: os.kill(fork_server, signal.SIGTERM),
        "root": lambda: os.setuid(0),
        "others": lambda: list(Path.cwd().parent.iterdir()),
    }
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError as error:
            said[name] = type(error).__name__
        else:
            said[name] = "done"
    return said


@as_root
@pytest.mark.slow
@pytest.mark.spec("B07", "S106")
async def test_a_job_of_another_user_can_neither_read_the_secret_nor_touch_node_and_fork_server(folder: Path) -> None:
    secret = folder / "secret"
    secret.write_text(SECRET, encoding="ascii")
    secret.chmod(0o600)
    with trio.fail_after(SECONDS):
        async with (
            running_node(folder, "--cpus", "1", "--user", "one"),
            scheduler(),
            scheduled(attempts) as computation,
        ):
            said = await computation.run_result(attempts, str(secret))
    assert said == dict.fromkeys(said, "PermissionError")
    assert len(said) == 6


def leave_file() -> tuple[int, str]:
    path = Path("private").absolute()
    path.write_text("of this lease", encoding="ascii")
    return os.getuid(), str(path)


def read_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except PermissionError:
        return "refused"


@as_root
@pytest.mark.slow
@pytest.mark.spec("S104", "S106")
@pytest.mark.parametrize(
    ("options", "uids", "read"),
    [(("--users", "one,two"), {ONE, TWO}, "refused"), (("--user", "one"), {ONE}, "of this lease")],
)
async def test_two_leases_read_each_others_files_only_where_they_have_one_user(
    folder: Path, options: tuple[str, ...], uids: set[int], read: str
) -> None:
    components = (leave_file, read_file)
    with trio.fail_after(SECONDS):
        async with (
            running_node(folder, "--cpus", "2", *options),
            scheduler(),
            scheduled(*components) as first,
        ):
            one, path = await first.run_result(leave_file)
            async with scheduled(*components) as second:
                two, other = await second.run_result(leave_file)
                assert {one, two} == uids
                assert await second.run_result(read_file, path) == read
                assert await first.run_result(read_file, other) == read
                assert await first.run_result(read_file, path) == "of this lease"


async def leave_process() -> tuple[int, int]:
    """Start a process that no group of the server's holds."""
    return os.getuid(), subprocess.Popen(["sleep", "600"], start_new_session=True).pid  # noqa: ASYNC220


def runs(pid: int) -> tuple[int, bool]:
    """Tell who this is, and whether a process runs; one that its parent has not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return os.getuid(), False
    return os.getuid(), state not in {"Z", "X"}


@as_root
@pytest.mark.slow
@pytest.mark.spec("S104")
@pytest.mark.option("discoronode --users")
async def test_a_lease_waits_for_a_user_and_finds_nothing_of_the_one_before(folder: Path) -> None:
    found: list[tuple[int, bool]] = []

    async def second(pid: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with scheduled(runs) as computation:
            assert computation.statistics().servers == 0  # though the node has one that nobody uses
            task_status.started()
            found.append(await computation.run_result(runs, pid))

    with trio.fail_after(SECONDS):
        async with (
            running_node(folder, "--cpus", "2", "--users", "one"),
            scheduler(),
            trio.open_nursery() as nursery,
            scheduled(leave_process, runs) as first,
        ):
            uid, pid = await first.run_result(leave_process)
            assert (uid, await first.run_result(runs, pid)) == (ONE, (ONE, True))
            await nursery.start(second, pid)
    assert found == [(ONE, False)]


def block_for_ever() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    while True:
        time.sleep(60)


async def echo(data: bytearray) -> tuple[int, bytearray]:
    return os.getuid(), data


@as_root
@pytest.mark.slow
async def test_large_buffers_arrive_and_servers_that_do_not_end_are_killed_though_users_differ(folder: Path) -> None:
    large = bytearray(os.urandom(4 << 20))
    with trio.fail_after(SECONDS):
        async with (
            running_node(folder, "--cpus", "1", "--user", "one"),
            scheduler(),
            scheduled(block_for_ever, echo) as computation,
        ):
            assert await computation.run_result(echo, large) == (ONE, large)
            blocked = await computation.run(block_for_ever)
            await blocked.terminate(grace_period=0)
            with pytest.raises(discoro.ServerLost) as lost:
                await blocked.result()
            assert lost.value.signal == signal.SIGKILL
            assert (await computation.run_result(echo, bytearray(1)))[0] == ONE


# --- what is refused


@pytest.mark.fault("F24")
@pytest.mark.parametrize("option", ["user", "users"])
async def test_a_user_who_is_not_there_is_refused_in_one_line(option: str) -> None:
    done = await output("node", f"--{option}", "nobody-of-that-name")
    said = done.stderr.decode()
    assert done.returncode == 2
    assert said.count("\n") == 1
    assert said.startswith(f"discoronode: --{option}: ")
    assert ("no user 'nobody-of-that-name'" if os.geteuid() == 0 else "only root can") in said


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("user", "users", "said"),
    [
        ("root", [], "user: 'root' is root"),
        ("0", [], "user: '0' is root"),
        ("4000000000", [], "user: there is no user"),
        ("9" * 30, [], "user: there is no user"),
        (None, ["nobody", "nobody"], "users: a user is named twice"),
        ("nobody", ["daemon"], "users: give either users"),
    ],
)
def test_users_who_cannot_be_had_are_refused_by_their_option(
    monkeypatch: pytest.MonkeyPatch, user: str | None, users: list[str], said: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(OptionError, match=said):
        check_users(user, users, None)


@pytest.mark.fault("F24")
def test_only_root_runs_servers_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(OptionError, match="user: only root can run servers as other users; start this program as root"):
        check_users("nobody", [], None)
    assert check_users(None, [], None).all == []


@pytest.mark.fault("F24")
def test_a_user_must_get_to_the_interpreter_and_to_the_working_folders(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    inner = folder / "closed" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    monkeypatch.setattr(_users, "_NEEDED", (folder,))
    assert [user.name for user in check_users("nobody", [], folder).all] == ["nobody"]
    with pytest.raises(OptionError, match=r"dest_path: nobody, the user that servers run as, may not enter .*/closed"):
        check_users("nobody", [], inner)
    monkeypatch.setattr(_users, "_NEEDED", (inner,))
    with pytest.raises(OptionError, match=r"users: nobody may not enter .*/closed, where this Python"):
        check_users(None, ["nobody"], folder)


# --- decisions


def terms(computation: bytes) -> LeaseTerms:
    return LeaseTerms(computation, b"client", "name", QueueEntry(1, 1), b"key", 0.0, 10.0)


def grant_one(holding: Holding, computation: bytes) -> int:
    return holding.grant(0.0, terms(computation), 1, scheduler_id=b"scheduler", shared=False)


def test_a_node_offers_nothing_while_all_its_users_are_in_use() -> None:
    holding = Holding(range(3), most_leases=1)
    assert holding.free == 3
    assert grant_one(holding, b"first") == 1
    assert holding.free == 0
    assert grant_one(holding, b"second") == 0
    assert grant_one(holding, b"first") == 1  # who has a user may have more servers
    holding.ended(b"first")
    assert holding.free == 3
    assert grant_one(holding, b"second") == 1


def test_each_lease_has_a_user_of_its_own_and_the_one_that_was_free_the_longest() -> None:
    one, two = (User(name, number, number, (), "/") for number, name in enumerate(("one", "two"), 1))
    users = Users(each=[one, two])
    assert users.most_leases == 2
    assert [users.take(), users.take()] == [one, two]
    users.give_back(two)
    users.give_back(one)
    assert users.take() == two
    shared = Users(one)
    assert shared.most_leases is None
    assert [shared.take(), shared.take()] == [one, one]
