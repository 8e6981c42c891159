"""CPython's own tests of `concurrent.futures`, run against `Executor`.

These are left out:

- `test_max_workers_negative`: the option is `servers` here, and the error names it;
- `test_cancel_futures`: it fails if no job has begun when it shuts down (`test_executor` has one that waits);
- `test_interpreter_shutdown`, `test_submit_after_interpreter_shutdown`, `test_hang_gh83386`, `test_hang_gh94440`: their
  programs import the executor from `concurrent.futures` by its name (`test_executor` has one for the end of a program);
- the mixins for initializers and deadlocks: they look into the attributes and processes of `ProcessPoolExecutor`, and
  want one dead process to break the whole pool. Here only its own jobs fail;
- the classes for threads and processes: they look into attributes of those executors.
"""

from __future__ import annotations

import importlib
import unittest
from typing import TYPE_CHECKING, Any

import pytest

import discoro_trio as discoro

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "test.test_concurrent_futures"

MIXINS = {
    "executor": "ExecutorTest",
    "test_wait": "WaitTests",
    "test_as_completed": "AsCompletedTests",
    "test_shutdown": "ExecutorShutdownTest",
}

LEFT_OUT = {
    "test_max_workers_negative",
    "test_cancel_futures",
    "test_interpreter_shutdown",
    "test_submit_after_interpreter_shutdown",
    "test_hang_gh83386",
    "test_hang_gh94440",
}


def cases() -> Iterator[Any]:
    """Give the test functions of the mixins, if this Python has its tests with it."""
    for module, mixin in MIXINS.items():
        try:
            found = getattr(importlib.import_module(f"{PACKAGE}.{module}"), mixin)
        except ImportError:
            reason = "this Python comes without its tests, or has others"
            yield pytest.param(None, "", id=mixin, marks=pytest.mark.skip(reason=reason))
            continue
        for name in sorted(vars(found)):
            if name.startswith("test_") and name not in LEFT_OUT:
                yield pytest.param(found, name, id=f"{mixin}.{name}")


class Case(unittest.TestCase):
    """What the mixins expect around them."""

    worker_count = 2

    def setUp(self) -> None:
        self.executor: Any = self.executor_type(self.worker_count)

    def tearDown(self) -> None:
        self.executor.shutdown()
        self.executor = None

    @staticmethod
    def executor_type(max_workers: int) -> discoro.Executor:
        return discoro.Executor(servers=max_workers)


@pytest.mark.parametrize(("mixin", "name"), list(cases()))
def test_the_tests_of_cpython_pass(mixin: Any, name: str) -> None:
    case = type(mixin.__name__, (mixin, Case), {})(name)
    result = unittest.TestResult()
    case.run(result)
    assert [text for _, text in [*result.errors, *result.failures]] == []
    assert result.testsRun == 1
