"""Objects that are hard to send, for `test_hard_things`: each check returns True where it arrived whole."""

from __future__ import annotations

import abc
import contextvars
import dataclasses
import enum
import functools
import operator
import threading
import types
import typing
from typing import Any, ClassVar, Optional

import msgspec

OFFSET = 10
MISSING = object()
LOCK = threading.Lock()
LOCAL = threading.local()
number = contextvars.ContextVar("number", default=3)


def helper(value: int) -> int:
    return value + OFFSET


# --- classes that refer to themselves


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    x: int

    def __setstate__(self, state: list[int]) -> None:
        object.__setattr__(self, "x", helper(state[0]) - OFFSET)

    def __getstate__(self) -> list[int]:
        return [self.x]


ORIGIN = Place(7)
Place.START = ORIGIN  # type: ignore[attr-defined]


class Hashed:
    known: typing.ClassVar[dict[Hashed, str]] = {}
    table: typing.ClassVar[dict[str, Any]] = {}

    def __init__(self, key: int) -> None:
        self.key = key

    def __hash__(self) -> int:
        return helper(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashed) and other.key == self.key

    def __reduce__(self) -> tuple[Any, ...]:
        return Hashed, (self.key,)

    @staticmethod
    def add(a: int, b: int) -> int:
        return a + b


Hashed.known[Hashed(1)] = "one"
Hashed.table["add"] = Hashed.add


class NewArgs:
    def __new__(cls, value: int) -> typing.Self:
        made = super().__new__(cls)
        made.value = helper(value)  # type: ignore[attr-defined]
        return made

    def __getnewargs__(self) -> tuple[int]:
        return (1,)


NewArgs.ONE = NewArgs(1)  # type: ignore[attr-defined]


class Single:
    _one: typing.ClassVar[Any] = None
    _lock: typing.ClassVar[Any] = threading.Lock()

    def __new__(cls) -> typing.Self:
        with cls._lock:
            if cls._one is None:
                cls._one = super().__new__(cls)
        made: typing.Self = cls._one
        return made


Single()


class Node:
    root: Node

    def __init__(self, above: Node | None = None) -> None:
        self.above = above
        self.below: list[Node] = [] if above is None else [*above.below, self]


Node.root = Node()
Node.root.below.append(Node(Node.root))


def selves() -> bool:
    single: Any = Single
    place: Any = Place
    new: Any = NewArgs
    return (
        place.START is ORIGIN
        and ORIGIN.x == 7
        and Hashed.known[Hashed(1)] == "one"
        and Hashed.table["add"](1, 2) == 3
        and new.ONE.value == 11
        and single() is single()
        and Node.root.below[0].above is Node.root
    )


# --- enums


class Operation(enum.Enum):
    ADD = types.SimpleNamespace(call=lambda a, b: a + b + OFFSET)
    SUBTRACT = (operator.sub, len)
    ASK = types.SimpleNamespace(call=lambda: Operation.ADD)

    @classmethod
    def usual(cls) -> Operation:
        return cls.ADD


Operation.bound = Operation.usual  # type: ignore[attr-defined]


class Planet(enum.Enum):
    EARTH = (6, 3)
    MARS = (8, 2)

    def __init__(self, mass: int, radius: int) -> None:
        self.density = mass / radius


class Axis(bytes, enum.Enum):
    label: str

    def __new__(cls, value: int, label: str) -> typing.Self:
        made = bytes.__new__(cls, [value])
        made._value_ = value
        made.label = label
        return made

    X = (1, "east")
    Y = (2, "north")


class Access(enum.IntFlag):
    READ = 4
    WRITE = 2
    ALL = 6


class Order(enum.IntEnum):
    FIRST = 1
    EINS = 1


def enums() -> bool:
    made: Any = Operation
    planet: Any = Planet
    axis: Any = Axis.Y
    return (
        made.bound() is made.ADD
        and made.ADD.value.call(1, 2) == 13
        and made.ASK.value.call() is made.ADD
        and planet((8, 2)) is Planet.MARS
        and Planet.MARS.density == 4
        and Axis.Y.label == "north"
        and axis == b"\x02"
        and Access(6) is Access.ALL
        and (Access.READ | Access.WRITE) is Access.ALL
        and Order(1) is Order.FIRST
        and Order["EINS"] is Order.FIRST
    )


# --- classes that are made in special ways


class Registered(type):
    known: typing.ClassVar[list[str]] = []

    def __new__(cls, name: str, bases: tuple[type, ...], names: dict[str, Any], *, tag: str) -> Registered:
        made = super().__new__(cls, name, bases, names)
        cls.known.append(name)
        made.tag = tag  # type: ignore[attr-defined]
        return made

    def __init__(cls, name: str, bases: tuple[type, ...], names: dict[str, Any], *, tag: str) -> None:  # noqa: ARG002
        super().__init__(name, bases, names)


class Tagged(metaclass=Registered, tag="t"):
    pass


class Plugin:
    known: typing.ClassVar[dict[str, type]] = {}

    def __init_subclass__(cls, *, key: str) -> None:
        assert key not in Plugin.known, "registered twice"
        Plugin.known[key] = cls


class First(Plugin, key="first"):
    def label(self) -> str:
        return super().__repr__()[:15]


class Checked:
    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, f"_{name}"

    def __get__(self, instance: object, owner: type) -> Any:
        return self if instance is None else getattr(instance, self.name)

    def __set__(self, instance: object, value: int) -> None:
        setattr(instance, self.name, helper(value))


class Holder:
    value = Checked()


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> int: ...


@Shape.register
class Blob:
    pass


class Flexible:
    __slots__ = ("__dict__", "__hidden")

    def __init__(self) -> None:
        self.__hidden = 5
        self.other = 6

    def both(self) -> int:
        return self.__hidden + self.other


class Record(msgspec.Struct, frozen=True, kw_only=True, tag="r", rename="camel"):
    some_number: int = 1
    items: list[int] = msgspec.field(default_factory=list)
    below: Record | None = None

    def total(self) -> int:
        return helper(sum(self.items))


class Counted(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        self.x += OFFSET


T = typing.TypeVar("T")


class Tree(msgspec.Struct, typing.Generic[T]):
    value: T
    below: list[Tree[T]] = []


class Numbered(Tree[int]):
    number: int = 1


class Kind(msgspec.Struct):
    known: ClassVar[list[str]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Kind.known.append(cls.__name__)


class Small(Kind, tag="small"):
    size: int = 1


class Tone(enum.Enum):
    LOW = "low"


@dataclasses.dataclass
class Note:
    tone: Tone
    pitch: Optional[int] = None  # noqa: UP045 - read as text, by a name of `typing`


DECODED = msgspec.json.decode(b'{"tone": "low"}', type=Note)  # msgspec keeps what it has found out in both classes


def structs() -> bool:
    return (
        msgspec.json.decode(b'{"value":1,"below":[{"value":2}]}', type=Tree[int]) == Tree(1, [Tree(2)])
        and Numbered(1) == Numbered(1, [], 1)
        and Kind.known == ["Small"]
        and msgspec.json.encode(Small()) == b'{"type":"small","size":1}'
        and msgspec.json.decode(b'{"tone": "low"}', type=Note) == Note(Tone.LOW)
        and typing.get_type_hints(Note)["pitch"] == Optional[int]  # noqa: UP045
    )


class Options(typing.TypedDict, total=False):
    wide: bool


def classes() -> bool:
    tagged: Any = Tagged
    holder = Holder()
    holder.value = 1
    descriptor: Any = Holder.value
    decoded = msgspec.json.decode(b'{"type":"r","someNumber":2,"below":{"type":"r"}}', type=Record)
    made_here = type("Second", (Plugin,), {}, key="second")
    return (
        tagged.tag == "t"
        and Registered.known == ["Tagged"]
        and Plugin.known == {"first": First, "second": made_here}
        and First().label().startswith("<tests")
        and holder.value == 11
        and descriptor.owner is Holder
        and isinstance(Blob(), Shape)
        and Flexible().both() == 11
        and decoded == Record(some_number=2, below=Record())
        and Record(items=[1]).total() == 11
        and Counted(1).x == 11
        and Options(wide=True) == {"wide": True}
        and Options.__optional_keys__ == {"wide"}
    )


# --- functions, and what is no value


def synchronized(function: Any) -> Any:
    lock = threading.RLock()

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        with lock:
            return function(*args)

    return wrapper


@synchronized
def locked(value: int) -> int:
    return helper(value)


def is_odd(value: int) -> bool:
    return value > 0 and is_even(value - 1)


def is_even(value: int) -> bool:
    return value == 0 or is_odd(value - 1)


def counter() -> tuple[Any, Any]:
    count = 0

    def add() -> int:
        nonlocal count
        count += 1
        return count

    return add, lambda: count


add, current = counter()


class Calls:
    @functools.singledispatchmethod
    def kind(self, value: object) -> str:
        return f"object {value}"

    @kind.register
    def _(self, value: int) -> str:
        return f"int {value}"

    @classmethod
    @functools.cache
    def cached(cls, value: int) -> tuple[type, int]:
        return cls, helper(value)

    partial = functools.partialmethod(lambda _, a, b: (a, b), 1)


def functions(given: object = MISSING) -> bool:
    with LOCK:
        LOCAL.value = number.get()
    add()
    return (
        given is MISSING
        and LOCAL.value == 3
        and locked(1) == 11
        and is_odd(7)
        and current() == 1
        and Calls().kind(1) == "int 1"
        and Calls.cached(1) == (Calls, 11)
        and Calls().partial(2) == (1, 2)
    )


CHECKS = [selves, enums, classes, structs, functions]


class Named:
    """Pickles as the name that it has in its module."""

    def __new__(cls, name: str) -> typing.Self:
        assert name.isupper()
        return super().__new__(cls)

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> str:
        return self.name


NOTHING = Named("NOTHING")


def is_nothing(value: object = NOTHING) -> bool:
    return value is NOTHING and NOTHING.name == "NOTHING"


class OddError(Exception):
    def __init__(self, text: str, *, code: int) -> None:
        super().__init__(f"{text}!")
        self.code = code


def errors() -> list[Exception]:
    return [OddError("a", code=1)]
