"""What holds for every test: it leaves no file descriptor, and all of them together no process and no thread.

A test that is written here or in a folder below need not do anything for it.
"""

from __future__ import annotations

import gc
import os
import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest
from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

DESCRIPTORS = Path("/proc/self/fd")
RUN_VARIABLE = "DISCORO_TRIO_TEST_RUN"
GRACE_SECONDS = 5.0
"""How long processes and threads of the last test may take to end."""
HELPER = "multiprocessing.resource_tracker"
"""In the command of a process that Python itself starts once and ends with the interpreter."""
# Hypothesis measures by the clock, so a busy machine would fail what it measures.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Each run has the same inputs, so it judges the change. `--hypothesis-profile "other inputs"` tries others.
settings.register_profile("same inputs", UNTIMED, derandomize=True)
settings.register_profile("other inputs", UNTIMED, derandomize=False)
# The programs of `_project` need to know whether a test fails, not why.
settings.register_profile("first failure", UNTIMED, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.load_profile("first failure" if "DISCORO_TRIO_PATCH_RUN" in os.environ else "same inputs")
CACHED_THREAD = "Trio thread "
"""The name of an idle worker thread that Trio keeps for ten seconds; a busy one is named by its job."""


class Leftovers(NamedTuple):
    """What still runs."""

    processes: list[psutil.Process]
    threads: list[threading.Thread]


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fail the run when a process or a thread outlives its tests.

    Processes are known by a variable of their environment, so one that has lost its parent is found too.
    """
    run = secrets.token_hex(8)
    os.environ[RUN_VARIABLE] = run
    before = set(threading.enumerate())
    yield
    left = leftovers(run, before)
    if any(left):
        names = [describe(process) for process in left.processes]
        names += [f"thread {thread.name}" for thread in left.threads]
        for process in left.processes:
            process.kill()
        pytest.fail(f"left behind by the tests: {'; '.join(names)}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def no_secret_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests, and the programs that they start, away from the cluster of whoever runs them."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))
    os.environ.pop("DISCORO_SECRET", None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test that opens file descriptors and leaves them open."""
    before = open_descriptors()
    yield
    left = open_descriptors() - before
    if left:
        gc.collect()
        left = open_descriptors() - before
    if left:
        names = ", ".join(f"{number} ({target})" for number, target in sorted(left))
        pytest.fail(f"{item.nodeid} left file descriptors open: {names}", pytrace=False)


def open_descriptors() -> set[tuple[int, str]]:
    """Return the descriptors of this process and what each refers to; none where the system cannot say."""
    found: set[tuple[int, str]] = set()
    if DESCRIPTORS.exists():
        for entry in list(DESCRIPTORS.iterdir()):
            try:
                found.add((int(entry.name), str(entry.readlink())))
            except FileNotFoundError:
                continue  # the descriptor of this very listing
    return found


def leftovers(run: str, before: set[threading.Thread]) -> Leftovers:
    """Look until nothing is there any more or the grace is over, and return what is."""
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        found = Leftovers(processes_of(run), threads_since(before))
        if not any(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def processes_of(run: str) -> list[psutil.Process]:
    """Return the processes that descend from this run of tests, dead children that nobody waited for too."""
    me = os.getpid()
    return [process for process in psutil.process_iter() if process.pid != me and descends(process, me, run)]


def descends(process: psutil.Process, parent: int, run: str) -> bool:
    """Whether a process is a child of this one, or was started below it."""
    try:
        child = process.ppid() == parent
        if process.status() == psutil.STATUS_ZOMBIE:
            return child
        helper = any(HELPER in argument for argument in process.cmdline())
        return not helper and (child or process.environ().get(RUN_VARIABLE) == run)
    except psutil.Error:
        return False  # it has just ended, or belongs to somebody else


def threads_since(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that were started since, but for the idle ones that Trio keeps a while."""
    started = set(threading.enumerate()) - before
    return [thread for thread in started if not thread.name.startswith(CACHED_THREAD)]


def describe(process: psutil.Process) -> str:
    """Say which process it is, as far as it can still be asked."""
    try:
        status = process.status()
        command = process.name() if status == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.Error:
        return f"process {process.pid}"
    return f"process {process.pid} ({status}): {command}"
