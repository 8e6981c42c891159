from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro_trio import NotPicklable
from discoro_trio._shipping._codec import LARGE, OUT_OF_BAND, dumps, loads
from discoro_trio._shipping._shipped import NOTHING, Shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.frozensets(ATOMS),
)


def there_and_back(obj: Any, shipped: Shipped | None = None) -> Any:
    """Send an object as links do: the receiver has memory of its own that can be written to."""
    body, buffers = dumps(obj, shipped)
    return loads(bytearray(body), [bytearray(memoryview(buffer).cast("B")) for buffer in buffers])


LOCK = threading.Lock()


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


def module_level(number: int) -> int:
    return number + 1


class Raises:
    def __init__(self, *, when: str) -> None:
        self.when = when

    def __getstate__(self) -> dict[str, str]:
        if self.when == "pickled":
            text = "will not be pickled"
            raise ValueError(text)
        return self.__dict__

    def __setstate__(self, state: dict[str, str]) -> None:
        text = "will not be opened"
        raise ValueError(text)


# --- plain data


@given(PLAIN)
def test_plain_data_comes_back_the_same(value: Any) -> None:
    assert there_and_back(value) == value


@given(PLAIN)
def test_plain_data_is_plain_pickle(value: Any) -> None:
    body, buffers = dumps(value)
    assert body == pickle.dumps(value, 5)
    assert not buffers


def test_plain_data_does_not_load_cloudpickle() -> None:
    code = (
        "import sys; from discoro_trio._shipping._codec import dumps, loads\n"
        "loads(*dumps((1, [2.0, 'x'], {'a': b''})))\n"
        "assert 'cloudpickle' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.binary(), st.lists(st.integers()))
def test_data_that_looks_like_names_of_client_modules_is_no_harm(data: bytes, numbers: list[int]) -> None:
    value = ("__main__", b"\x8c\x08__main__\x94\x8c\x01P\x94\x93" + data, numbers, "\x93")
    assert there_and_back(value) == value


# --- buffers


@pytest.mark.spec("B17")
@pytest.mark.parametrize("size", [OUT_OF_BAND, 10 * OUT_OF_BAND])
def test_large_arrays_leave_the_pickle_uncopied(size: int) -> None:
    array = np.arange(size, dtype=np.uint8)
    body, (buffer,) = dumps({"array": array, "n": 1})
    assert len(body) < 500
    assert np.shares_memory(np.frombuffer(buffer, np.uint8), array)
    back = there_and_back({"array": array, "n": 1})["array"]
    assert np.array_equal(back, array)
    assert back.flags.writeable


@pytest.mark.spec("B17")
def test_small_arrays_stay_in_the_pickle_even_beside_large_ones() -> None:
    small, large = np.arange(10), np.arange(OUT_OF_BAND)
    assert not dumps(small)[1]
    _, buffers = dumps([small, large, small + 1])
    assert [np.shares_memory(np.frombuffer(buffer, np.uint8), large) for buffer in buffers] == [True]
    back = there_and_back([small, large, small + 1])
    assert [part.tolist() for part in back] == [small.tolist(), large.tolist(), (small + 1).tolist()]


@pytest.mark.spec("B17")
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_several_dimensions_come_as_they_are(order: Literal["C", "F"]) -> None:
    array = np.arange(OUT_OF_BAND).reshape(2, 4, -1).copy(order=order)
    _, (buffer,) = dumps(array)
    assert memoryview(buffer).ndim == 1
    assert np.array_equal(there_and_back(array), array)
    assert np.array_equal(there_and_back(array[:, ::2]), array[:, ::2])


@pytest.mark.spec("B17")
def test_received_arrays_lie_in_the_received_buffers() -> None:
    body, buffers = dumps(np.zeros(OUT_OF_BAND))
    received = [bytearray(memoryview(buffer)) for buffer in buffers]
    array = loads(body, received)
    received[0][0] = 255
    assert array.tobytes()[0] == 255


@pytest.mark.spec("B17")
@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize(
    "wrap",
    [lambda x: x, lambda x: [x], lambda x: ((1, x), {}), lambda x: {"a": {"b": x}}, lambda x: ((), {"x": [0, x]})],
)
def test_large_bytes_leave_the_pickle_uncopied(kind: type, wrap: Any) -> None:
    large = kind(b"z" * LARGE)
    value = wrap(large)
    body, (buffer,) = dumps(value)
    assert len(body) < 200
    assert buffer is large
    back = there_and_back(value)
    assert back == value
    assert repr(type(large)) in repr([type(part) for part in flat(back)])


@pytest.mark.spec("B17")
def test_bytes_that_were_received_as_such_are_opened_without_a_copy() -> None:
    first, second, array = b"1" * LARGE, bytearray(b"2" * LARGE), np.arange(OUT_OF_BAND)
    body, buffers = dumps((array, first, second))
    back = loads(body, [bytes(buffer) for buffer in buffers[:1]] + list(buffers[1:]))
    assert back[1] is first
    assert back[2] == second
    assert back[2] is not second


THINGS: list[Any] = [b"z" * LARGE, bytearray(b"y" * LARGE), "t" * LARGE, "ü" * LARGE, "u", b"v", 5, 2.5]


@given(st.lists(st.integers(0, len(THINGS) - 1), max_size=10))
@settings(deadline=None, max_examples=50)
def test_large_and_small_things_keep_their_places(which: list[int]) -> None:
    values = [THINGS[index] for index in which]
    value = [values, tuple(values[::-1])]
    body, buffers = dumps(value)
    assert (there_and_back(value) == value) is True
    if any(isinstance(part, (bytes, bytearray)) and len(part) >= LARGE for part in values):
        assert len(body) < 10_000
        assert len(buffers) == len({index for index in which if index < 4})


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for inner in value.values() for part in flat(inner)]
    return [part for inner in value for part in flat(inner)] if isinstance(value, (list, tuple)) else [value]


@pytest.mark.spec("B17")
def test_parts_keep_their_order_and_identity() -> None:
    first, second, array = b"1" * LARGE, bytearray(b"2" * LARGE), np.arange(OUT_OF_BAND)
    inner = [second, array]
    value = (first, inner, {"deep": [[[[first, inner]]]]}, "é" * LARGE, b"tail")
    body, buffers = dumps(value)
    assert len(body) < 1000
    assert len(buffers) == 4
    back = there_and_back(value)
    assert back[0] == first
    assert back[1][0] == second
    assert np.array_equal(back[1][1], array)
    assert back[2]["deep"][0][0][0][1] is back[1]
    assert back[2]["deep"][0][0][0][0] is back[0]
    assert back[3:] == value[3:]


@pytest.mark.spec("B17")
@pytest.mark.parametrize("size", [10, OUT_OF_BAND, LARGE])
def test_memoryviews_arrive_as_bytes(size: int) -> None:
    data = bytearray(b"m" * size)
    body, buffers = dumps(("x", memoryview(data)))
    assert (len(body) < 500) == (size < 500 or bool(buffers))
    assert there_and_back(("x", memoryview(data))) == ("x", bytes(data))
    assert there_and_back(memoryview(data)[::2]) == bytes(data[::2])


def test_large_bytes_beside_code_of_the_client() -> None:
    large = b"z" * LARGE
    body, buffers = dumps((large, module_level, Point(1)), NOTHING)
    assert buffers == [large]
    assert len(body) < 5000
    back = there_and_back((large, Point(1)), NOTHING)
    assert back == (large, Point(1))


def test_more_buffers_than_a_frame_takes_stay_in_the_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discoro_trio._shipping._codec._MAX_BUFFERS", 3)
    arrays = [np.full(OUT_OF_BAND, n, dtype=np.uint8) for n in range(5)]
    assert len(dumps(arrays)[1]) == 3
    assert [back[0] for back in there_and_back(arrays)] == [0, 1, 2, 3, 4]
    parts = [bytes([n]) * LARGE for n in range(5)]
    assert len(dumps(parts)[1]) == 3
    assert there_and_back(parts) == parts


# --- code of the client


@pytest.mark.spec("S43")
def test_instances_of_components_are_plain_pickle() -> None:
    shipped = Shipped("digest")
    shipped.add([Point, module_level])
    for value in (Point(1), [Point(n) for n in range(300)], module_level, {"f": module_level}):
        assert dumps(value, shipped)[0] == pickle.dumps(value, 5)
    assert dumps(Point(1), NOTHING)[0] != pickle.dumps(Point(1), 5)


class Slotted(Point):
    __slots__ = ("held",)


class Listed(list[Any]):
    pass


class OwnState(Point):
    def __getstate__(self) -> object:
        return {"x": Unlisted()}


class OwnReduce(Point):
    def __reduce__(self) -> tuple[object, ...]:
        return Unlisted, ()


class Unlisted:
    pass


@pytest.mark.parametrize("kind", [Slotted, Listed, OwnState, OwnReduce])
def test_what_a_listed_object_holds_beside_its_plain_values_is_sent_by_value_too(kind: Any) -> None:
    shipped = Shipped("digest")
    shipped.add([Point, kind])
    value: Any = kind([Unlisted()]) if kind is Listed else kind(1)
    if kind is Slotted:
        value.held = Unlisted()
    assert dumps(value, shipped)[0] != pickle.dumps(value, 5)
    value = Point(1)
    value.x = Unlisted()
    assert dumps(value, shipped)[0] != pickle.dumps(value, 5)


@pytest.mark.spec("S46", "S47")
def test_what_comes_back_by_value_is_ones_own_class() -> None:
    back = there_and_back(Point(3), NOTHING)
    assert type(back) is Point
    assert there_and_back(Point, NOTHING) is Point


@pytest.mark.spec("S47")
def test_what_comes_back_by_value_has_ones_own_globals_and_changes_none() -> None:
    here = sys.modules[__name__]
    back = there_and_back(module_level, NOTHING)
    assert back is not module_level
    assert back(1) == 2
    assert back.__globals__ is here.__dict__
    assert here.module_level is module_level


def test_a_class_of_a_function_is_the_same_class_each_time() -> None:
    class Local:
        def kind(self) -> type:
            return __class__  # type: ignore[name-defined, no-any-return]

    first, second = there_and_back(Local(), NOTHING), there_and_back([Local()], NOTHING)[0]
    assert type(first) is type(second) is Local is first.kind()


def test_a_closure_keeps_its_own_cells() -> None:
    total = 0

    def add(number: int) -> int:
        nonlocal total
        total += number
        return total

    other = there_and_back(add)
    assert [add(2), other(5), other(1), add(1)] == [2, 5, 6, 3]


def test_recursion_within_a_function() -> None:
    def fact(number: int) -> int:
        return 1 if number < 2 else number * fact(number - 1)

    assert there_and_back(fact)(5) == 120


def test_functions_that_exec_made_keep_their_globals_together() -> None:
    names: dict[str, Any] = {}
    exec("def f(n):\n    seen.append(n)\n    return g(n)\ndef g(n): return len(seen)\nseen = []", names)  # noqa: S102
    f, g = there_and_back((names["f"], names["g"]))
    assert [f(1), f(2), g(0)] == [1, 2, 2]
    assert names["seen"] == []


# --- failures


def iter_nothing() -> Iterator[None]:
    yield


def with_a_default(lock: object = LOCK) -> object:
    return lock


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (threading.Lock(), "an object of type _thread.lock cannot be pickled: TypeError"),
        (("a", {"k": [threading.Lock()]}), r"_thread\.lock \(at \[1\]\['k'\]\[0\] of what was to be sent\)"),
        (iter_nothing(), "type generator cannot be pickled"),
        (with_a_default, "the function with_a_default cannot be pickled"),
        (Raises(when="pickled"), "Raises cannot be pickled: ValueError: will not be pickled"),
        (sys.stderr, "type .* cannot be pickled"),
    ],
)
def test_what_cannot_be_pickled_is_named_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(NotPicklable, match=said) as caught:
        dumps(value)
    assert caught.value.__cause__ is not None


@pytest.mark.fault("F18")
def test_an_attribute_that_cannot_be_pickled_is_named() -> None:
    point = Point(1)
    point.x = [threading.Lock()]  # type: ignore[assignment]
    with pytest.raises(NotPicklable, match=r"_thread\.lock \(at \[0\]\.x\[0\] of"):
        dumps((point,))


@pytest.mark.fault("F18")
def test_an_object_whose_class_cannot_be_sent_by_value_needs_a_module_of_its_own() -> None:
    lock = threading.Lock()

    class Held:
        def method(self) -> object:
            return lock

    Held.__module__ = "__main__"
    with pytest.raises(NotPicklable, match=r"class .*Held.*Move it into a module and list that module as a component"):
        dumps(Held())


@pytest.mark.fault("F18")
def test_what_refers_to_itself_too_deeply_is_not_picklable() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotPicklable, match="RecursionError"):
        dumps(deep)
    while deep:
        deep = deep[0]


@pytest.mark.fault("F18")
def test_errors_of_opening_reach_the_caller() -> None:
    body, buffers = dumps(Raises(when="opened"))
    with pytest.raises(ValueError, match="will not be opened"):
        loads(body, buffers)


def test_running_out_of_memory_is_not_called_unpicklable() -> None:
    class Huge:
        def __reduce__(self) -> str:
            raise MemoryError

    with pytest.raises(MemoryError):
        dumps(Huge())
