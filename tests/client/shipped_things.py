"""What a user may list as components or send, one of each kind, for `test_components`."""

from __future__ import annotations

import abc
import collections
import contextlib
import dataclasses
import enum
import functools
import logging
import math
import typing
from math import pi, sqrt
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = typing.TypeVar("T")
SECRET = 7
log = logging.getLogger(__name__)


class Meta(type):
    """Marks its classes."""

    tag: str

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        made = super().__new__(cls, name, bases, namespace)
        made.tag = f"tag of {name}"
        return made


class Marked(metaclass=Meta):
    def tell(self) -> str:
        return type(self).tag


class Shape(abc.ABC):
    """A base that is not listed."""

    @abc.abstractmethod
    def area(self) -> float: ...


class Circle(Shape):
    def __init__(self, radius: float) -> None:
        self.radius = radius

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Circle) and other.radius == self.radius

    __hash__ = None  # type: ignore[assignment]

    def area(self) -> float:
        return pi * self.radius**2

    @property
    def diameter(self) -> float:
        return 2 * self.radius

    @functools.cached_property
    def root(self) -> float:
        return sqrt(self.radius)

    @staticmethod
    def unit() -> Circle:
        return Circle(1)

    @classmethod
    def of_area(cls, area: float) -> Circle:
        return cls(math.sqrt(area / math.pi))

    class Label:
        text = "a label"

        def tell(self) -> str:
            return self.text


class Big(Circle):
    def area(self) -> float:
        return super().area() * 100


@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: int = 2
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Pixel:
    x: int
    y: int = 0


@attrs.define
class Basket:
    size: int = attrs.field(validator=attrs.validators.gt(0))
    items: list[str] = attrs.field(factory=list)

    def fill(self) -> int:
        self.items += ["apple"] * self.size
        return len(self.items)


@attrs.frozen(kw_only=True)
class Label:
    text: str = attrs.field(converter=str)


class Slotted:
    __slots__ = ("__weakref__", "value")

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slotted) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


class Box(typing.Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and other.content == self.content

    __hash__ = None  # type: ignore[assignment]


class Color(enum.Enum):
    RED = 1
    GREEN = 2

    def other(self) -> Color:
        return Color.GREEN if self is Color.RED else Color.RED


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024 - this kind too


class Triple(typing.NamedTuple):
    first: int
    second: int = 2
    third: int = 3

    def total(self) -> int:
        return sum(self)


class Caller:
    def __call__(self) -> int:
        return 1


class BrokenError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text}!")
        self.code = code


def doubled(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return 2 * function(*args)

    return wrapper


@doubled
def decorated(number: int) -> int:
    return number + 1


@functools.lru_cache
def cached(number: int) -> int:
    return number * 3


@functools.singledispatch
def kind_of(value: object) -> str:
    return f"object {value}"


@kind_of.register
def _(value: int) -> str:
    return f"int {value}"


@contextlib.contextmanager
def logged(name: str) -> Iterator[str]:
    log.debug("in %s", name)
    yield name


def within() -> str:
    with logged("there") as name:
        return name


def same(value: T) -> T:
    return value


def tell(value: Any, name: str) -> Any:
    found = getattr(value, name)
    return found() if callable(found) else found


def make(kind: Callable[..., T], *args: Any) -> T:
    return kind(*args)


def is_circle(value: object) -> bool:
    return isinstance(value, Circle)


def other_of(color: Color) -> Color:
    return color.other()


def fact(number: int) -> int:
    return 1 if number < 2 else number * fact(number - 1)


def tells_secret() -> int:
    return SECRET


def calls_helper() -> int:
    return same(3) + tells_secret()


def calls_name_of(name: str) -> Any:
    return globals()[name]


def count() -> int:
    names = globals()
    names["counted"] = names.get("counted", 0) + 1
    return int(names["counted"])


shortened = lambda text: text[:3]  # noqa: E731 - lambdas at module level too

LISTED: list[Any] = [
    Marked, Circle, Big, Point, Pixel, Basket, Label, Slotted, Box, Color, Access, Pair, Triple, BrokenError,
    decorated, cached, kind_of, logged, within, same, tell, make, is_circle, other_of, fact, tells_secret,
    calls_helper, calls_name_of, count, shortened,
]  # fmt: skip
INSTANCES: list[Any] = [
    Circle(3), Point(1), Pixel(1, 2), Basket(2), Label(text="x"), Slotted(3), Box([1]), Color.RED,
    Access.READ | Access.WRITE, Pair(1, 2), Triple(1),
]  # fmt: skip
