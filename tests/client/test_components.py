from __future__ import annotations

import functools
import json
import math
import socket
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from discoro_trio import DiscoroError, NotPicklable
from discoro_trio._shipping._components import check_components, pack

from . import shipped_things as things
from .shipping_peer import PLACE, ROOT, Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE_ONLY = 10


def uses_here_only() -> int:
    return HERE_ONLY


def uses_numpy(size: int) -> Any:
    return np.arange(size).sum()


def imports(name: str) -> str:
    return str(__import__(name).__name__)


@pytest.fixture(scope="module")
def listed() -> Iterator[Peer]:
    """A process that has all of `shipped_things` as components."""
    with Peer(things.LISTED) as peer:
        yield peer


@pytest.fixture(scope="module")
def bare() -> Iterator[Peer]:
    """A process that has none."""
    with Peer() as peer:
        yield peer


@pytest.fixture(params=["listed", "bare"])
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each of them."""
    found: Peer = request.getfixturevalue(request.param)
    return found


# --- what is not a component


@pytest.mark.spec("S42")
@pytest.mark.parametrize(
    ("component", "said"),
    [
        (42, "not the int 42"),
        (None, "not the NoneType None"),
        ([1], r"not the list \[1\]"),
        (things.Caller(), "list the class Caller"),
        (socket.AF_INET, "not the AddressFamily"),
        (sys.modules["__main__"], "the program itself cannot be a component"),
        (types.ModuleType("made_here"), "module made_here has no file"),
        (Path("/dev/null"), "neither a file nor a folder"),
    ],
)
def test_what_is_no_component_is_named_at_construction(component: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        check_components([component])


@pytest.mark.spec("S42")
def test_a_called_function_is_no_component() -> None:
    async def job() -> None: ...

    with pytest.raises(TypeError, match="list the function itself"):
        check_components([job()])


@pytest.mark.spec("S42")
@pytest.mark.parametrize("components", ["file.txt", things.same, 3])
def test_components_are_a_list(components: Any) -> None:
    with pytest.raises(TypeError, match=r"the components are a list: Computation\(\["):
        check_components(components)


@pytest.mark.spec("S42")
def test_a_missing_path_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder") as caught:
        check_components([tmp_path / "absent.dat"])
    assert str(tmp_path) in str(caught.value)


@pytest.mark.spec("S42")
def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data").write_bytes(b"")
    with pytest.raises(ValueError, match="would both be 'data' in the working folder"):
        check_components([tmp_path / "a" / "data", tmp_path / "b" / "data"])


@pytest.mark.fault("F18")
def test_a_component_that_cannot_be_pickled_is_named() -> None:
    lock = __import__("threading").Lock()

    def locked() -> None:
        lock.acquire()

    with pytest.raises(NotPicklable, match=r"component .*locked cannot be sent: .*<variable lock>.*_thread\.lock"):
        pack([things.same, locked])


# --- functions and classes of all kinds, listed and not


@pytest.mark.spec("S43", "S44", "S46")
@pytest.mark.parametrize("value", things.INSTANCES, ids=lambda value: type(value).__name__)
def test_an_instance_comes_back_as_one_of_the_original_class(peer: Peer, value: Any) -> None:
    back = peer.call(things.same, value)
    assert type(back) is type(value)
    assert back == value


@pytest.mark.spec("S46")
@pytest.mark.parametrize("kind", [thing for thing in things.LISTED if isinstance(thing, type)])
def test_a_class_comes_back_as_itself(peer: Peer, kind: type) -> None:
    assert peer.call(things.same, kind) is kind


@pytest.mark.spec("S46")
def test_isinstance_holds_there_too() -> None:
    with Peer([things.Circle, things.Big, things.is_circle]) as peer:
        assert peer.call(things.is_circle, things.Big(1)) is True
        assert peer.call(things.is_circle, things.Circle(1)) is True
        assert peer.call(things.is_circle, things.Point(1)) is False


@pytest.mark.spec("S44")
@pytest.mark.parametrize(
    ("value", "name", "wanted"),
    [
        (things.Circle(1), "area", math.pi),
        (things.Circle(1), "diameter", 2),
        (things.Circle(4), "root", 2),
        (things.Big(1), "area", 100 * math.pi),
        (things.Circle, "unit", things.Circle(1)),
        (things.Marked(), "tell", "tag of Marked"),
        (things.Circle.Label(), "tell", "a label"),
        (things.Basket(3), "fill", 3),
        (things.Triple(1), "total", 6),
        (things.Color.RED, "other", things.Color.GREEN),
    ],
)
def test_methods_run_there(peer: Peer, value: Any, name: str, wanted: Any) -> None:
    assert peer.call(things.tell, value, name) == wanted


@pytest.mark.spec("S44")
@pytest.mark.parametrize(
    ("kind", "args"),
    [
        (things.Circle, (2,)), (things.Circle.of_area, (math.pi,)), (things.Point, (1,)), (things.Pixel, (1,)),
        (things.Basket, (1,)), (things.Slotted, (1,)), (things.Box, ("x",)), (things.Pair, (1, 2)),
        (things.Triple, (1,)),
        (functools.partial(things.Label, text="t"), ()), (things.decorated, (4,)), (things.cached, (4,)),
        (things.kind_of, (4,)), (things.kind_of, ("x",)), (things.fact, (5,)), (things.shortened, ("abcdef",)),
        (lambda x: x + 1, (1,)), (json.dumps, ({"a": 1},)), (len, ("abc",)),
    ],
)  # fmt: skip
def test_callables_of_all_kinds_give_there_what_they_give_here(peer: Peer, kind: Any, args: tuple[Any, ...]) -> None:
    assert peer.call(things.make, kind, *args) == kind(*args)
    assert peer.call(kind, *args) == kind(*args)


@pytest.mark.spec("S43")
@pytest.mark.parametrize("function", [things.fact, things.decorated, things.cached, things.shortened, things.Point])
def test_what_is_listed_is_named_and_not_sent(listed: Peer, function: Any) -> None:
    listed.call(function, "abc" if function is things.shortened else 1)
    assert listed.sent < 150


@pytest.mark.spec("S43")
def test_a_lambda_and_a_closure_can_be_listed() -> None:
    def outer(amount: int) -> Any:
        return lambda number: number + amount

    add = outer(5)
    with Peer([add, things.same]) as peer:
        assert peer.call(add, 1) == 6
        assert peer.sent < 200
        assert peer.call(things.same, add) is add


def test_components_of_a_closed_computation_are_not_named_any_more() -> None:
    with Peer([things.fact]) as peer:
        pass
    with Peer() as other:
        assert other.call(things.fact, 4) == 24
        assert other.sent > 300
    assert peer.packed.shipped.reference(things.fact) is not None


# --- globals


@pytest.mark.spec("S47")
def test_functions_share_the_globals_of_one_real_module(peer: Peer) -> None:
    assert peer.call(things.count) == 1
    assert peer.call(things.count) == 2
    assert peer.call(things.calls_name_of, "counted") == 2
    assert not hasattr(things, "counted")


@pytest.mark.spec("S47")
def test_modules_that_a_function_names_are_imported_there(peer: Peer) -> None:
    assert peer.call(uses_numpy, 5) == 10


@pytest.mark.spec("S47")
@pytest.mark.parametrize("components", [[], [uses_here_only]])
def test_with_the_option_a_global_that_is_not_listed_is_a_name_error_that_says_so(components: list[Any]) -> None:
    with Peer(components, automatic=False) as peer:
        error = peer.error(uses_here_only)
    assert isinstance(error, NameError)
    assert "HERE_ONLY" in str(error)
    notes = "\n".join(error.__notes__)
    assert f"HERE_ONLY is a global of the client's module {__name__}: it did not travel" in notes
    assert "Computation(components)" in notes


@pytest.mark.spec("S47")
def test_with_the_option_a_function_that_is_not_listed_is_no_global_of_others() -> None:
    with Peer([things.calls_helper], automatic=False) as peer:
        assert isinstance(peer.error(things.calls_helper), NameError)
    with Peer([things.calls_helper, things.same, things.tells_secret], automatic=False) as peer:
        error = peer.error(things.calls_helper)
        assert "SECRET is a global" in "\n".join(error.__notes__)


@pytest.mark.spec("S47")
def test_a_missing_module_is_an_error_that_names_it_and_the_server(tmp_path: Path) -> None:
    (tmp_path / "beside_the_script.py").write_text("VALUE = 1\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import beside_the_script  # type: ignore[import-not-found] # noqa: PLC0415

        names: dict[str, Any] = {"beside_the_script": beside_the_script}
        exec("def uses(): return beside_the_script.VALUE", names)  # noqa: S102
        with Peer() as peer:
            assert peer.call(names["uses"]) == 1
        with Peer(automatic=False) as peer:
            error = peer.error(names["uses"])
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("beside_the_script")
    assert isinstance(error, ModuleNotFoundError)
    assert "beside_the_script" in str(error)
    assert PLACE in str(error)


@pytest.mark.spec("S47")
def test_an_import_that_fails_in_a_function_names_module_and_server(peer: Peer) -> None:
    error = peer.error(imports, "no_such_module_anywhere")
    assert isinstance(error, ModuleNotFoundError)
    assert f"There is no module no_such_module_anywhere at {PLACE}" in "\n".join(error.__notes__)


@pytest.mark.spec("S48")
def test_what_one_call_sets_in_its_module_later_calls_see() -> None:
    def set_up() -> None:
        things.ready = "yes"  # type: ignore[attr-defined]

    with Peer([things.calls_name_of]) as peer:
        peer.call(set_up)
        assert peer.call(things.calls_name_of, "ready") == "yes"
    assert not hasattr(things, "ready")


def not_here() -> None:
    text = "not made for servers"
    raise TypeError(text)


class Sour:
    def __reduce__(self) -> tuple[Any, ...]:
        return not_here, ()


@pytest.mark.spec("S47")
def test_a_component_that_cannot_be_installed_is_named_with_the_server() -> None:
    class Child:
        held = Sour()

    with (
        pytest.raises(DiscoroError, match=rf"component .*Child cannot be installed at {PLACE}: TypeError: not made"),
        Peer([Child]),
    ):
        pass


@pytest.mark.spec("S46")
def test_a_class_arrives_without_its_bases_being_asked_again() -> None:
    known: list[str] = []

    class Fussy:
        needed: int

        def __init_subclass__(cls, *, needed: int) -> None:
            cls.needed = needed
            known.append(cls.__name__)

    class Child(Fussy, needed=1):
        @staticmethod
        def seen() -> list[str]:
            return known

    with Peer([Child]) as peer:
        assert peer.call(Child.seen) == ["Child"]
        assert peer.call(getattr, Child, "needed") == 1


# --- modules, packages, files, folders


def project(folder: Path) -> Path:
    """Write a package with a package in it, relative imports and a data file."""
    inner = folder / "shop" / "stock"
    inner.mkdir(parents=True)
    (folder / "shop" / "__init__.py").write_text("from .stock import total\nNAME = 'shop'\n")
    (inner / "__init__.py").write_text(
        "from pathlib import Path\nfrom .. import prices\n"
        "def total():\n    return sum(prices.PRICES) + int(Path(__file__).with_name('extra.txt').read_text())\n"
    )
    (inner / "extra.txt").write_text("100")
    (inner / "__pycache__").mkdir()
    (inner / "__pycache__" / "junk.pyc").write_bytes(b"junk")
    (folder / "shop" / "prices.py").write_text(
        "PRICES = [1, 2]\nclass Price:\n    def __init__(self):\n        self.p = 1\n"
    )
    return folder


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield project(tmp_path)
    for name in set(sys.modules) - before:
        if name.split(".")[0] in {"shop", "single", "random"}:
            del sys.modules[name]


def total_there() -> Any:
    import shop.stock  # type: ignore[import-not-found] # noqa: PLC0415

    return shop.NAME, shop.stock.total()


@pytest.mark.spec("S42", "S47")
def test_a_package_travels_with_its_packages_and_data(on_path: Path) -> None:
    import shop.prices  # type: ignore[import-not-found] # noqa: PLC0415

    with Peer([shop]) as peer:
        assert peer.call(total_there) == ("shop", 103)
        assert peer.call(shop.total) == 103
        assert peer.sent < 150
        assert type(peer.call(things.same, shop.prices.Price())) is shop.prices.Price
    assert not any("pyc" in packed.path for packed in peer.packed.package.code)


@pytest.mark.spec("S42")
def test_a_module_of_a_package_brings_the_whole_package(on_path: Path) -> None:
    import shop.stock  # noqa: PLC0415

    with Peer([shop.stock]) as peer:
        assert peer.call(total_there) == ("shop", 103)


@pytest.mark.spec("S42")
def test_a_module_replaces_an_installed_one_of_its_name(on_path: Path) -> None:
    (on_path / "single.py").write_text("def where(): return __file__\n")
    import single  # type: ignore[import-not-found] # noqa: PLC0415

    with Peer([single]) as peer:
        there = peer.call(single.where)
    assert there.endswith("single.py")
    assert not there.startswith(str(on_path))


@pytest.mark.spec("S42")
def test_an_installed_module_is_imported_there_and_not_sent() -> None:
    packed = pack([np])
    assert packed.package.code == ()
    assert packed.package.imports == ("numpy",)


def read_there(name: str) -> str:
    return Path(name).read_text(encoding="utf-8")


def list_there() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


@pytest.mark.spec("S42", "S45")
def test_files_and_folders_are_in_the_working_folder(tmp_path: Path) -> None:
    project(tmp_path / "work")
    (tmp_path / "input.dat").write_text("input")
    (tmp_path / "input.dat").chmod(0o750)
    (tmp_path / "work" / "empty").mkdir()
    with Peer([tmp_path / "input.dat", str(tmp_path / "work"), list_there]) as peer:
        assert peer.call(read_there, "input.dat") == "input"
        assert peer.call(read_there, "work/shop/stock/extra.txt") == "100"
        found = peer.call(list_there)
        mode = peer.call(lambda: Path("input.dat").stat().st_mode & 0o777)
    assert mode == 0o750
    assert "work/empty" in found
    assert [name for name in found if "/" not in name] == ["input.dat", "work"]


@pytest.mark.spec("S42", "S47")
def test_packages_in_a_listed_folder_can_be_imported(on_path: Path) -> None:
    import shop  # noqa: PLC0415

    with Peer([on_path]) as peer:
        assert peer.call(total_there) == ("shop", 103)
        assert peer.call(shop.total) == 103
        assert peer.sent < 150


# --- the ways to run a program

PROGRAM = """
import sys
sys.path[:0] = {paths!r}
from tests.client.shipping_peer import Peer

class Thing:
    def __init__(self, value):
        self.value = value
    def doubled(self):
        return Thing(2 * self.value)

def is_thing(thing):
    return isinstance(thing, Thing), thing.doubled()

def unlisted(number):
    return [Thing(number), __name__]

if __name__ == "__main__":
    with Peer([Thing, is_thing]) as peer:
        held, back = peer.call(is_thing, Thing(3))
        assert held and type(back) is Thing and back.value == 6
        (thing, name) = peer.call(unlisted, 4)
        assert type(thing) is Thing and thing.value == 4 and name == "__main__"
        assert peer.call(lambda: Thing(1).doubled().value) == 2
    print("all is well")

"""


def run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.spec("S42", "S46")
@pytest.mark.parametrize("way", ["script", "-c", "prompt", "-m pdb", "module"])
def test_a_program_can_be_run_in_any_way(way: str, tmp_path: Path) -> None:
    text = PROGRAM.format(paths=[ROOT])
    script = tmp_path / "program.py"
    script.write_text(text)
    if way == "script":
        said = run(sys.executable, str(script))
    elif way == "-c":
        said = run(sys.executable, "-c", text)
    elif way == "prompt":
        said = run(sys.executable, "-i", "-q", text=text)
    elif way == "-m pdb":
        said = run(sys.executable, "-m", "pdb", "-c", "continue", "-c", "quit", str(script), text="quit\n")
    else:
        said = run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport runpy\n"
                   "runpy.run_module('program', run_name='__main__', alter_sys=True)")  # fmt: skip
    assert "all is well" in said


@pytest.mark.spec("S47")
def test_what_is_installed_goes_by_name() -> None:
    with Peer() as peer:
        assert peer.call(json.dumps, [1]) == "[1]"
        assert peer.sent < 100


def test_a_function_that_is_defined_anew_goes_anew() -> None:
    module = types.ModuleType("cells")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["cells"] = module
    try:
        exec("def answer(): return 1\ndef ask(): return answer()", module.__dict__)  # noqa: S102
        with Peer([module.answer, module.ask]) as peer:
            assert peer.call(module.ask) == 1
            old = module.answer
            exec("def answer(): return 2", module.__dict__)  # noqa: S102
            assert peer.call(module.answer) == 2
            assert peer.call(old) == 1
            assert peer.call(module.ask) == 2
    finally:
        del sys.modules["cells"]
