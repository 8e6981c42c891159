"""The public face: exactly these names, each documented, at the price of a light import."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
import types
from typing import TYPE_CHECKING
from unittest import mock

import pytest

import discoro_trio
from discoro_trio import _cluster, _link, _process, _wire

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [
    "RCI",
    "AuthenticationError",
    "Channel",
    "Cluster",
    "Computation",
    "ComputationClosed",
    "ComputationNursery",
    "ComputationStatistics",
    "Coro",
    "CoroCancelled",
    "CoroInfo",
    "DiscoroError",
    "DiscoroStatus",
    "Executor",
    "Failure",
    "FileTransferError",
    "HTTPServer",
    "Location",
    "MailboxClosed",
    "MonitorException",
    "NameTaken",
    "Node",
    "NodeAllocation",
    "NodeInfo",
    "NotPicklable",
    "Nursery",
    "PeerDisconnected",
    "ProcScheduler",
    "ProtocolError",
    "RemoteError",
    "Scheduler",
    "SchedulerNotFound",
    "ServerLost",
    "Shared",
    "Status",
    "StatusLagged",
    "Supervisor",
    "TooManyRestarts",
    "UnknownCoro",
    "UnknownLocation",
    "VersionMismatch",
    "asyncio_job",
    "config",
    "connect",
    "current_coro",
    "del_file",
    "locate",
    "locate_channel",
    "locate_rci",
    "open_channel",
    "open_cluster",
    "open_coro",
    "open_endpoint",
    "open_http_server",
    "open_node",
    "open_nursery",
    "open_scheduler",
    "open_supervisor",
    "send_file",
]
"""A name that is added or taken away here is a change for users; it goes into the changelog."""

HEAVY = (
    "asyncio",
    "click",
    "cryptography",
    "hypercorn",
    "multiprocessing",
    "numpy",
    "psutil",
    "quart",
    "rich",
)
"""Each of these would cost every program a part of its start; they are imported where they are used."""


def test_exactly_the_listed_names_are_public() -> None:
    assert sorted(discoro_trio.__all__) == sorted(NAMES)


def test_nothing_else_looks_public() -> None:
    others = {
        name
        for name, value in vars(discoro_trio).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert others <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_documentation_of_its_own(name: str) -> None:
    documentation = getattr(discoro_trio, name).__doc__
    assert documentation
    assert not documentation.startswith(f"{name}("), "that is a signature, not a sentence"


AWAITED = {
    "Coro": ("send", "deliver", "receive", "result", "wait", "terminate", "monitor"),
    "Channel": ("send", "deliver"),
    "RCI": ("run", "__call__"),
    "Computation": (
        *("close", "run", "run_at", "run_each", "run_nodes", "run_servers", "run_node_servers", "run_result"),
        *("run_results", "restart_server", "suspend_node", "resume_node", "nodes", "servers"),
    ),
    "ComputationNursery": ("run", "run_at", "start"),
    "Nursery": ("run", "start"),
    "ProcScheduler": ("schedule", "execute", "execute_at", "finish"),
    "Scheduler": ("status",),
    "HTTPServer": ("shutdown",),
}
"""The methods that are awaited, by class."""


@pytest.mark.parametrize(("kind", "method"), [(kind, method) for kind in AWAITED for method in AWAITED[kind]])
def test_what_is_awaited_is_a_coroutine_function(kind: str, method: str) -> None:
    assert inspect.iscoroutinefunction(getattr(getattr(discoro_trio, kind), method))


@pytest.mark.parametrize("name", ["locate", "locate_channel", "locate_rci", "send_file", "del_file"])
def test_functions_that_are_awaited_are_coroutine_functions(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(discoro_trio, name))


async def test_a_mock_of_a_handle_can_be_awaited() -> None:
    coro = mock.create_autospec(discoro_trio.Coro, instance=True)
    coro.result.return_value = 5
    assert await coro.result() == 5


LATER = tuple(
    f"discoro_trio.{name}"
    for name in (
        "_client",
        "_cluster.node._node",
        "_cluster._open",
        "_cluster.scheduler._scheduler",
        "_link",
        "_monitor",
        "_process",
        "_wire",
    )
)
"""What the start of a cluster loads while the servers' fork server starts, or never."""


NOT_FOR_SERVERS = tuple(
    f"discoro_trio.{name}"
    for name in (
        "_status",
        "_cluster.isolation._control_groups",
        "_cluster._facts",
        "_cluster.node._server_slot",
        "_link.discovery._discovery",
        "_link._options",
        "_link.secret._secret_file",
        "_monitor",
        "_process._open",
        "_wire._beacon",
    )
)


@pytest.mark.parametrize("name", [*LATER, *NOT_FOR_SERVERS])
def test_what_must_not_be_imported_exists(name: str) -> None:
    assert importlib.util.find_spec(name)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("from discoro_trio import open_cluster", (*HEAVY, *LATER)),
        (
            "import discoro_trio._cluster.fork_server._fork_server, discoro_trio._cluster.server._server",
            (*HEAVY, *LATER[:4], *NOT_FOR_SERVERS),
        ),
    ],
    ids=["a program that opens a cluster", "the fork server"],
)
def test_nothing_is_imported_that_the_start_would_wait_for(code: str, unwanted: tuple[str, ...]) -> None:
    program = f"import discoro_trio, sys; {code}; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


FIRST_JOB = """
import subprocess, sys, trio, discoro_trio as discoro
async def modules():
    import sys
    return set(sys.modules)
async def main():
    async with discoro.open_cluster(servers=1), discoro.Computation([modules]).schedule() as computation:
        return await computation.run_result(modules)
there = trio.run(main)
code = (
    "import discoro_trio._cluster.fork_server._fork_server, discoro_trio._cluster.server._server, sys;"
    "print(*sys.modules)"
)
print(sorted(there - {*subprocess.check_output([sys.executable, "-c", code], text=True).split()}))
"""


def test_a_server_imports_nothing_before_its_first_job() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_JOB], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", "the fork server, from which all servers are forked, should have imported it"


def test_names_are_listed_before_they_are_imported() -> None:
    program = "import discoro_trio; print(set(discoro_trio.__all__) <= set(dir(discoro_trio)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_a_name_that_there_is_not_is_refused_by_each_package() -> None:
    for package in (discoro_trio, _cluster, _link, _process, _wire):
        with pytest.raises(AttributeError, match=f"{package.__name__}.*no attribute 'nonsense'"):
            _ = package.nonsense


def public_functions() -> dict[str, Callable[..., object]]:
    """Give every public function and method that has parameters."""
    found: dict[str, Callable[..., object]] = {}
    for name in NAMES:
        value = getattr(discoro_trio, name)
        members = dict(inspect.getmembers(value)) if inspect.isclass(value) else {name: value}
        for member, function in members.items():
            if inspect.isfunction(function) and not member.startswith(("_", "add_note", "with_traceback")):
                found[f"{name}.{member}"] = function
    return found


INTERNAL = {"Node.hold_servers", "Node.join", "Node.keep_servers", "Node.leave_files_at", "ProcScheduler.starting"}
"""These are called by the package alone."""


@pytest.mark.parametrize("name", sorted(public_functions().keys() - INTERNAL))
def test_every_parameter_of_a_public_function_is_documented(name: str) -> None:
    function = public_functions()[name]
    documentation = inspect.getdoc(function) or ""
    named = set(re.findall(r"^    (\w+): ", documentation, re.MULTILINE))
    parameters = inspect.signature(function).parameters.keys() - {"self", "cls"}
    assert parameters <= named or " as with " in documentation, parameters - named
    assert documentation.splitlines()[0].endswith("."), "the first line is a sentence"
