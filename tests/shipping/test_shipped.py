from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from discoro_trio._shipping._module_origins import globals_of, is_client_module
from discoro_trio._shipping._shipped import NATURAL, CodeRoot, Shipped, _OpenRegistries

if TYPE_CHECKING:
    from collections.abc import Iterator


class Outer:
    class Inner:
        pass

    def method(self) -> None: ...


def function() -> None: ...


@pytest.fixture
def module() -> Iterator[Any]:
    made = types.ModuleType("made_for_this")
    sys.modules["made_for_this"] = made
    yield made
    del sys.modules["made_for_this"]


@pytest.mark.parametrize("name", ["json", "os.path", "sys", "numpy.linalg", "discoro_trio", "zipimport"])
def test_what_is_installed_is_no_client_module(name: str) -> None:
    __import__(name)
    assert not is_client_module(name)


@pytest.mark.parametrize("name", ["__main__", __name__, "tests"])
def test_the_program_and_what_lies_beside_it_are_client_modules(name: str) -> None:
    assert is_client_module(name)


def test_a_module_without_a_file_is_the_clients_unless_its_package_is_installed(module: Any) -> None:
    assert is_client_module("made_for_this")
    sys.modules["json.made"] = types.ModuleType("json.made")
    try:
        assert not is_client_module("json.made")
    finally:
        del sys.modules["json.made"]


@pytest.mark.spec("S43")
def test_a_listed_class_covers_what_is_defined_in_it() -> None:
    shipped = Shipped("d")
    shipped.add([Outer])
    assert shipped.reference(Outer) == NATURAL
    assert shipped.reference(Outer.Inner) == NATURAL
    assert shipped.reference(Outer.method) == NATURAL
    assert shipped.reference(function) is None


@pytest.mark.spec("S43")
def test_a_listed_method_is_known_by_its_place() -> None:
    shipped = Shipped("d")
    shipped.add([function, Outer.method])
    assert shipped.reference(Outer.method) == ("d", 1)
    assert shipped.reference(Outer) is None


def test_a_new_object_of_an_old_name_is_another_one(module: Any) -> None:
    exec("def f(): return 1", module.__dict__)  # noqa: S102
    old = module.f
    shipped = Shipped("d")
    shipped.add([old])
    assert shipped.reference(old) == NATURAL
    exec("def f(): return 2", module.__dict__)  # noqa: S102
    assert shipped.reference(module.f) is None
    assert shipped.reference(old) == ("d", 0)


def test_a_whole_package_covers_all_below_it(module: Any) -> None:
    exec("def f(): return 1", module.__dict__)  # noqa: S102
    assert Shipped(modules=frozenset({"made_for_this"})).reference(module.f) == NATURAL
    assert Shipped(modules=frozenset({"made_for"})).reference(module.f) is None
    assert Shipped(modules=frozenset({"tests"})).has_module(__name__)


def test_a_folder_covers_the_modules_that_are_imported_from_it() -> None:
    root = Path(__file__).parents[2]
    assert Shipped(roots=(CodeRoot(f"{root}/", ""),)).has_module(__name__)
    assert Shipped(roots=(CodeRoot(f"{root}/tests/", "tests"),)).has_module(__name__)
    assert not Shipped(roots=(CodeRoot(f"{root}/tests/", ""),)).has_module(__name__)
    assert not Shipped(roots=(CodeRoot("/elsewhere/", ""),)).has_module(__name__)


def test_by_name_goes_only_what_all_open_computations_have() -> None:
    first, second, opened = Shipped("1"), Shipped("2"), _OpenRegistries()
    first.add([Outer, function])
    second.add([Outer])
    assert opened.reference(Outer) is None
    opened.add(first)
    assert opened.reference(function) == NATURAL
    opened.add(second)
    assert opened.reference(Outer) == NATURAL
    assert opened.reference(function) is None
    opened.remove(second)
    assert opened.reference(function) == NATURAL


def test_components_are_found_while_their_computation_is_open() -> None:
    shipped, opened = Shipped("1"), _OpenRegistries()
    shipped.add([Outer, function])
    opened.add(shipped)
    assert opened.component("1", 1) is function
    opened.remove(shipped)
    with pytest.raises(LookupError, match="the computation of a component is closed"):
        opened.component("1", 1)


def test_globals_are_read_off_a_pickle_only_where_that_is_certain() -> None:
    pickled = __import__("pickle").dumps
    assert globals_of(pickled([Outer(), 147, b"\x93"], 5)) == [(__name__, "Outer")]
    assert globals_of(pickled(json.JSONDecodeError, 5)) == []
    # The module's name is written once; that the second one is Inner's cannot be seen.
    assert globals_of(pickled([Outer, function], 5)) is None
