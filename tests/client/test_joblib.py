"""The joblib backend "discoro": batches, errors, nested calls, and scikit-learn."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

import discoro_trio  # noqa: F401 - makes the backend known
from tests._loops import until_closed

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.spec("B34"), pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")]


def process_of(_number: int) -> int:
    return os.getpid()


def invert(number: int) -> float:
    return 1 / number


def nested(number: int) -> list[float]:
    return Parallel(n_jobs=2)(delayed(pow)(number, exponent) for exponent in range(3))  # type: ignore[no-any-return]


def test_calls_run_at_servers_in_batches_and_share_them() -> None:
    with parallel_config(backend="discoro", servers=2, components=[process_of, nested]):
        values = Parallel()(delayed(pow)(number, 2) for number in range(300))
        first = set(Parallel()(delayed(process_of)(number) for number in range(20)))
        second = set(Parallel(n_jobs=2)(delayed(process_of)(number) for number in range(20)))
        tree = Parallel()(delayed(nested)(number) for number in range(3))
        results = Parallel(return_as="generator")(delayed(pow)(number, 3) for number in range(5))
        assert list(results) == [0, 1, 8, 27, 64]
    until_closed()
    assert values == [number**2 for number in range(300)]
    assert os.getpid() not in first | second
    assert len(first | second) <= 2
    assert tree == [[1, 0, 0], [1, 1, 1], [1, 2, 4]]


def test_an_error_is_raised_and_the_backend_goes_on() -> None:
    with parallel_config(backend="discoro", servers=2):
        with pytest.raises(ZeroDivisionError) as caught:
            Parallel()(delayed(invert)(number) for number in (3, 2, 1, 0, 1))
        assert "return 1 / number" in "".join(caught.value.__notes__)
        del caught  # its frames hold the backend
        assert Parallel()(delayed(invert)(number) for number in (1, 2)) == [1.0, 0.5]
    until_closed()


def test_the_input_is_read_in_the_calling_program_and_not_in_the_loop() -> None:
    threads = set()

    def numbers() -> Iterator[int]:
        for number in range(50):
            threads.add(threading.current_thread().name)
            yield number

    with parallel_config(backend="discoro", servers=1):
        Parallel()(delayed(pow)(number, 2) for number in numbers())
    until_closed()
    assert "discoro loop" not in threads


def sum_at(values: np.ndarray[Any, Any], index: int) -> tuple[float, bool]:
    return float(values[index:].sum()), values.flags.writeable


def test_a_large_array_is_shared_and_sent_once() -> None:
    values = np.ones(1 << 18)
    with parallel_config(backend="discoro", servers=2):
        results = Parallel()(delayed(sum_at)(values, index=index) for index in range(20))
        small = Parallel()(delayed(sum_at)(values[:10], index) for index in range(2))
    until_closed()
    assert results == [((1 << 18) - index, False) for index in range(20)]
    assert [value for value, _ in small] == [10.0, 9.0]


def test_a_wrong_option_is_an_error() -> None:
    with parallel_config(backend="discoro", servers=0), pytest.raises(ValueError, match="servers"):
        Parallel()(delayed(pow)(1, 2) for _ in range(2))


@pytest.mark.parametrize("first", ["import joblib", "import discoro_trio"])
def test_the_backend_is_known_whichever_is_imported_first(first: str) -> None:
    source = f"""if True:
        import sys
        {first}
        import discoro_trio
        assert ("joblib" in sys.modules) == ({first!r} == "import joblib")
        import joblib
        import joblib.parallel
        assert "discoro" in joblib.parallel.EXTERNAL_BACKENDS
        assert "discoro_trio._client" not in sys.modules
        assert type(joblib.parallel.__spec__.loader).__name__ == "SourceFileLoader"
    """
    subprocess.run([sys.executable, "-W", "error", "-c", source], check=True, timeout=60)


@pytest.mark.slow
def test_a_grid_search_and_a_random_forest_run_on_it() -> None:
    samples, classes = make_classification(n_samples=200, random_state=0)
    search = GridSearchCV(RandomForestClassifier(n_estimators=5, random_state=0), {"max_depth": [2, 4]}, cv=3)
    forest = RandomForestClassifier(n_estimators=20, random_state=0)
    expected = search.fit(samples, classes).cv_results_["mean_test_score"].tolist()
    expected_forest = forest.fit(samples, classes).predict(samples).tolist()
    with parallel_config(backend="discoro", servers=2):
        scores = search.fit(samples, classes).cv_results_["mean_test_score"].tolist()
        forest_values = forest.fit(samples, classes).predict(samples).tolist()
    until_closed()
    assert scores == expected
    assert forest_values == expected_forest
