from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from discoro_trio import NotPicklable

from . import hard_things as things
from .shipping_peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPERATIONS = [*things.CHECKS, things.is_nothing, things.errors]


@pytest.fixture(scope="module", params=["called", "listed functions"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    with Peer(OPERATIONS if request.param == "listed functions" else []) as peer:
        yield peer


@pytest.mark.spec("B30", "B31")
@pytest.mark.parametrize("check", things.CHECKS, ids=lambda check: str(check.__name__))
def test_what_a_function_names_arrives_whole(peer: Peer, check: Any) -> None:
    assert peer.call(check) is True


@pytest.mark.spec("B30")
@pytest.mark.parametrize(
    "value",
    [
        things.ORIGIN, things.Planet.MARS, things.Axis.X, things.Operation.SUBTRACT, things.Operation.ADD,
        things.Access.READ, things.Order.EINS, things.Record(items=[1]), things.Hashed(3),
        things.Numbered(1), things.DECODED,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_instance_there_and_back_is_the_same(peer: Peer, value: Any) -> None:
    back = peer.call(lambda given: given, value)
    assert type(back) is type(value)
    assert back == value


@pytest.mark.spec("B30")
def test_what_pickles_as_its_own_name_is_one_object_there(peer: Peer) -> None:
    assert peer.call(things.is_nothing) is True
    assert peer.call(things.is_nothing, things.NOTHING) is True
    assert peer.call(lambda given: given, things.NOTHING) is things.NOTHING


@pytest.mark.fault("F18")
def test_errors_are_values_too_whatever_their_constructors_take(peer: Peer) -> None:
    (error,) = peer.call(things.errors)
    assert type(error) is things.OddError
    assert str(error) == "a!"
    assert error.code == 1


@pytest.mark.spec("B30")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="type statements came with Python 3.12")
def test_a_type_alias_may_name_itself() -> None:
    names: dict[str, Any] = {}
    text = "type Tree = list[Tree] | int\ntype Pair[T] = tuple[T, T]\ndef job(x: Tree) -> Pair[int]: return Tree, Pair"
    exec(text, names)  # noqa: S102
    with Peer([names["job"]]) as peer:
        assert peer.call(lambda job: repr(job(1)[0].__value__) + repr(job(1)[1][int]), names["job"]) == (
            "list[Tree] | intPair[int]"
        )


@pytest.mark.spec("B30")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="type statements came with Python 3.12")
def test_a_type_alias_with_parameters_that_names_itself_is_refused_with_advice() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("type Nested[T] = list[Nested[T]] | T", names)  # noqa: S102
    with Peer([]) as peer, pytest.raises(NotPicklable, match="Nested has parameters and names itself: move it into"):
        peer.call(lambda given: given, names["Nested"])


@pytest.mark.spec("B30")
def test_a_long_chain_of_functions_is_no_recursion_too_deep() -> None:
    lines = [f"def f{number}(): return f{number + 1}() + 1" for number in range(600)]
    main = vars(sys.modules["__main__"])
    exec("\n".join([*lines, "def f600(): return 0"]), main)  # noqa: S102
    try:
        with Peer([main["f0"]]) as peer:
            assert peer.call(main["f0"]) == 600
    finally:
        for number in range(601):
            del main[f"f{number}"]


# --- what cannot travel


class Unsendable:
    def __reduce__(self) -> tuple[Any, ...]:
        text = "not to be sent"
        raise ValueError(text)


BAD = Unsendable()
LARGE = bytes(2_000_000)
TABLE = {"a": 1}


def uses_bad() -> object:
    return BAD


def uses_large() -> object:
    return LARGE


def uses_table() -> int:
    return TABLE["a"]


@pytest.mark.spec("B31")
@pytest.mark.parametrize(
    ("function", "name", "reason"),
    [(uses_bad, "BAD", "ValueError: not to be sent"), (uses_large, "LARGE", "takes more than 1 MiB")],
)
def test_a_global_that_cannot_travel_is_named_where_it_is_sent_and_where_it_is_used(
    function: Any, name: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Peer([function]) as peer:
        said = [record.getMessage() for record in caplog.records]
        error = peer.error(function)
    assert len(said) == 1
    assert f"global {name} of module {__name__} does not travel" in said[0]
    assert reason in said[0]
    assert isinstance(error, NameError)
    assert reason in "\n".join(error.__notes__)


@pytest.mark.spec("B31")
def test_a_mutable_global_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with Peer([uses_table]) as peer:
                assert peer.call(uses_table) == 1
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert f"global TABLE of module {__name__} travels" in said[0]


# --- code that is edited

HELPER = "from low import deep\nK = {k}\ndef f(): return deep() + K\nclass C:\n    def m(self): return {k}\n"
LISTED = "def g(): return other()\ndef other(): return {k}\n"
MAIN = """
import helper_mod, listed_mod
N = 1
STATE = None
def tells(): return N
def job(): return tells() + helper_mod.f()
def listed(): return listed_mod.g()
class Thing:
    def first(self): return tells()
    def second(self): return helper_mod.C().m()
def thing(given): return given.first(), given.second()
def set_state():
    global STATE
    STATE = "there"
def state(): return STATE
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A program of three modules that can be edited."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "low.py").write_text("def deep(): return 0\n")
    write(tmp_path, 1)
    (tmp_path / "program_mod.py").write_text(MAIN)
    yield importlib.import_module("program_mod")
    for name in ("low", "helper_mod", "listed_mod", "program_mod"):
        sys.modules.pop(name, None)


def write(folder: Path, value: int) -> None:
    (folder / "helper_mod.py").write_text(HELPER.format(k=value))
    (folder / "listed_mod.py").write_text(LISTED.format(k=value))


@pytest.mark.spec("B31")
@pytest.mark.parametrize("listed", [True, False])
def test_edited_code_replaces_what_was_sent(program: Any, tmp_path: Path, listed: bool) -> None:  # noqa: FBT001
    components = [program.job, program.Thing, program.thing, program.state, program.listed_mod] if listed else []
    thing = program.Thing()
    with Peer(components) as peer:
        assert peer.call(program.job) == 2
        assert peer.call(program.thing, thing) == (1, 1)
        assert peer.call(program.listed) == 1
        peer.call(program.set_state)

        program.N = 10
        assert peer.call(program.job) == 11
        assert peer.call(program.thing, thing) == (10, 1)

        exec("def tells(): return 100 * N", vars(program))  # noqa: S102 - as a notebook's cell that runs again
        assert peer.call(program.job) == 1001
        program.Thing.first = lambda _: -1
        assert peer.call(program.thing, thing) == (-1, 1)

        write(tmp_path, 22)
        importlib.reload(program.helper_mod)
        importlib.reload(program.listed_mod)
        assert peer.call(program.job) == 1022
        assert peer.call(program.thing, thing) == (-1, 22)
        assert peer.call(program.listed) == 22
        # What a job has set there stays.
        assert peer.call(program.state) == "there"


# --- ways to run a program

RELATIVE = """
import sys
sys.path[:0] = {paths!r}
from tests.client.shipping_peer import Peer
from .inner import double

def job(number):
    from . import other
    from .inner import late
    return double(number) + other.VALUE + late()

def listed():
    from shop import inner
    return inner.double(4), inner.__file__

with Peer([job]) as peer:
    assert peer.call(job, 2) == 2 * 2 + 5 + 7
inner = sys.modules["shop.inner"]
with Peer([inner], automatic=False) as peer:
    doubled, file = peer.call(listed)
    assert doubled == 8 and file != inner.__file__, file
print("all is well")
"""


@pytest.mark.spec("B31")
@pytest.mark.parametrize("way", ["package", "zip"])
def test_relative_imports_work_however_the_package_is_run(tmp_path: Path, way: str) -> None:
    from .shipping_peer import ROOT  # noqa: PLC0415

    package = tmp_path / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(RELATIVE.format(paths=[ROOT]))
    (package / "inner.py").write_text("def double(x): return 2 * x\ndef late(): return 7\n")
    (package / "other.py").write_text("VALUE = 5\n")
    where = tmp_path / "src"
    if way == "zip":
        import shutil  # noqa: PLC0415

        where = tmp_path / "shop.zip"
        shutil.make_archive(str(where.with_suffix("")), "zip", tmp_path / "src")
    text = f"import sys, runpy; sys.path.insert(0, {str(where)!r})\n"
    text += "runpy.run_module('shop', run_name='__main__', alter_sys=True)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60)
    assert "all is well" in done.stdout, done.stderr
