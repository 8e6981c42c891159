"""The benchmark program: its rounds, its ratios, what it prints and writes, and how it fails."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, NoReturn

import attrs
import pytest

from benchmarks import __main__ as program
from benchmarks import _environments, _processes, _uneven
from benchmarks._environments import NotAvailable, Ready, prepare
from benchmarks._figures import FIGURES, Figure, Mark
from benchmarks._peer_process import measure_peer, sets_of_peer, version_of
from benchmarks._processes import MeasurementError, measure_in_process, run_for_number
from benchmarks._report import number, report, table
from benchmarks._results import Result, Run, as_json, from_json
from benchmarks._rounds import Outcome, Plan, alternate
from benchmarks._systems import DISCORO, FLOOR, PEERS, PLAIN, ROOT, SYSTEMS, Peer, System
from benchmarks.page import __main__ as page
from benchmarks.page import _figures
from benchmarks.page._regions import replaced

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

RATE = Figure("rate", "1/s", "higher", mark=Mark(0.5, of="floor"))
DELAY = Figure("delay", "s", "lower", mark=Mark(1.0))
FAST, SLOW, BROKEN = (System(name, f"no.{name}") for name in ("fast", "slow", "broken"))
THREE_ROUNDS = Plan(rounds=3, seconds=1.0, timeout=1.0, budget=float("inf"))


class Values:
    """Measures from prepared values, an exception among them being raised, and notes who was asked."""

    def __init__(self, **values: list[float | MeasurementError]) -> None:
        self._values = {name: iter(prepared) for name, prepared in values.items()}
        self.asked: list[str] = []

    def __call__(self, system: System) -> float:
        self.asked.append(system.name)
        value = next(self._values[system.name])
        if isinstance(value, MeasurementError):
            raise value
        return value


def test_rounds_alternate_between_the_systems() -> None:
    values = Values(fast=[1, 2, 3], slow=[1, 2, 3])
    alternate([FAST, SLOW], values, THREE_ROUNDS)
    assert values.asked == ["fast", "slow"] * 3


def test_a_figure_is_the_median_of_its_rounds() -> None:
    outcome = alternate([FAST], Values(fast=[100, 1, 7]), THREE_ROUNDS)
    assert outcome.medians() == {"fast": 7}


def test_a_system_that_fails_is_left_alone_and_hides_no_other() -> None:
    values = Values(broken=[5, MeasurementError("it broke")], fast=[1, 2, 3])
    outcome = alternate([BROKEN, FAST], values, THREE_ROUNDS)
    assert outcome == Outcome(values={"fast": [1, 2, 3]}, failures={"broken": "it broke"})
    assert values.asked == ["broken", "fast", "broken", "fast", "fast"]


def test_no_round_begins_that_would_exceed_the_budget() -> None:
    plan = Plan(rounds=5, seconds=1.0, timeout=1.0, budget=9.0)
    clock: Iterator[float] = iter([0.0, 4.0, 8.0, 12.0])
    outcome = alternate([FAST], Values(fast=[1, 2, 3, 4, 5]), plan, clock=lambda: next(clock))
    assert outcome.values == {"fast": [1, 2]}


@pytest.mark.parametrize(("figure", "best"), [(RATE, "slow"), (DELAY, "fast")])
def test_the_best_peer_is_the_one_on_the_better_side(figure: Figure, best: str) -> None:
    result = Result(figure, {"discoro": 3.0, "floor": 6.0, "fast": 1.0, "slow": 2.0})
    assert result.best_peer == best
    assert result.ratio_to("floor") == 0.5
    assert result.ratio_to("fast") == 3.0


def test_what_is_missing_has_no_ratio() -> None:
    result = Result(RATE, {"floor": 6.0})
    assert result.best_peer is None
    assert result.ratio_to("floor") is None
    assert result.reached is None


@pytest.mark.parametrize(
    ("figure", "discoro", "reached"),
    [(RATE, 5.0, True), (RATE, 4.9, False), (DELAY, 1.0, True), (DELAY, 1.1, False)],
)
def test_a_mark_is_reached_on_its_side(figure: Figure, discoro: float, *, reached: bool) -> None:
    assert Result(figure, {"discoro": discoro, "floor": 10.0}).reached is reached


def test_json_holds_every_system_under_its_figure() -> None:
    spreads = {"discoro": (2.0, 4.0)}
    results = [Result(RATE, {"discoro": 3.0, "floor": 6.0, "fast": 1.0}, {"slow": "no luck"}, spreads)]
    run = Run([*results, Result(DELAY, {})], {"rounds": 3}, {"fast": "1.2"}, {"absent": "no wheel"})
    assert as_json(run) == {
        "run": {"rounds": 3},
        "versions": {"fast": "1.2"},
        "not_measured": {"absent": "no wheel"},
        "figures": {
            "rate": {
                "discoro": 3.0,
                "floor": 6.0,
                "peers": {"fast": 1.0},
                "unit": "1/s",
                "better": "higher",
                "spread": {"discoro": [2.0, 4.0]},
                "failures": {"slow": "no luck"},
            },
            "delay": {
                "discoro": None,
                "floor": None,
                "peers": {},
                "unit": "s",
                "better": "lower",
                "spread": {},
                "failures": {},
            },
        },
    }


def test_a_run_is_read_back_from_json() -> None:
    spreads = {"discoro": (2.0, 4.0)}
    result = Result(FIGURES[0], {"discoro": 3.0, "floor": 6.0, "fast": 1.0}, {"slow": "no luck"}, spreads)
    run = Run([result], {"rounds": 3}, {"fast": "1.2"}, {"absent": "no wheel"})
    written = json.loads(json.dumps(as_json(run)))
    written["figures"]["no_longer_measured"] = written["figures"][FIGURES[0].name]
    assert from_json(written) == run


def test_columns_are_aligned_words_left_numbers_right() -> None:
    assert table(["figure", "x"], [["a", "1"], ["longer", "1,000"]]).splitlines() == [
        "figure      x",
        "a           1",
        "longer  1,000",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.00"), (0.05189, "0.0519"), (1.234, "1.23"), (99.94, "99.9"), (84520.6, "84,521")],
)
def test_numbers_show_the_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text


def test_the_report_shows_ratios_and_the_mark() -> None:
    [_, row] = report(Run([Result(RATE, {"discoro": 3.0, "floor": 6.0, "fast": 1.0})])).splitlines()
    assert row.split() == [
        *("rate", "1/s", "higher", "3.00", "6.00", "0.500", "fast", "1.00", "3.00"),
        *("≥", "0.5", "of", "floor:", "reached"),
    ]


def test_the_report_shows_all_peers_when_there_are_several() -> None:
    text = report(Run([Result(RATE, {"fast": 2.0, "slow": 1.0})]))
    assert text.endswith("figure  fast  slow\nrate    2.00  1.00")


def test_the_report_says_who_failed_and_who_was_left_out() -> None:
    left_out = {"absent": "it has no wheel", "fast": "--quick leaves it out", "slow": "--quick leaves it out"}
    text = report(Run([Result(RATE, {}, {"broken": "it broke"})], not_measured=left_out))
    assert text.splitlines()[-3:] == [
        "broken failed at rate: it broke",
        "not measured: absent: it has no wheel",
        "not measured: fast, slow: --quick leaves it out",
    ]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces measuring by a constant; holds the names of the systems that were asked for it."""
    names: list[str] = []

    def measure(system: System, figure: Figure, **_: float) -> float:
        names.append(f"{system.name} {figure.name}")
        return 2.0

    monkeypatch.setattr(program, "measure_in_process", measure)
    monkeypatch.setattr(program, "measure_peer", lambda peer, _python, figure, **_: measure(peer, figure))
    return names


def test_an_unknown_name_is_refused_in_one_line_that_lists_the_known(
    measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["jobs_per_s", "jobs_per_year"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "jobs_per_year" in line
    assert all(figure.name in line for figure in FIGURES)
    assert not measured


def test_a_file_in_no_folder_is_refused_before_anything_is_measured(
    tmp_path: Path, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["--json", str(tmp_path / "absent" / "figures.json")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "there is no folder" in line
    assert not measured


def test_quick_measures_no_installed_peer_but_the_process_pool(measured: list[str]) -> None:
    assert program.main(["--quick", "jobs_per_s"]) == 0
    assert measured == ["discoro jobs_per_s", "floor jobs_per_s", "ProcessPoolExecutor jobs_per_s"] * 3


def test_a_run_prints_and_writes_the_figures_named(
    tmp_path: Path, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert program.main(["--quick", "--json", str(file), "startup_s", "messages_per_s"]) == 0
    assert set(json.loads(file.read_text(encoding="utf-8"))["figures"]) == {"startup_s", "messages_per_s"}
    assert "startup_s" in capsys.readouterr().out
    assert not any("jobs_per_s" in name for name in measured)


@pytest.mark.parametrize(("broken", "code"), [(DISCORO, 1), (FLOOR, 1), (PEERS[0], 0)])
def test_the_exit_code_says_whether_a_ratio_to_the_floor_is_missing(
    broken: System, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(system: System, *_: object, **__: float) -> float:
        if system == broken:
            raise MeasurementError
        return 1.0

    monkeypatch.setattr(program, "measure_in_process", measure)
    monkeypatch.setattr(program, "measure_peer", measure)
    assert program.main(["--quick", "jobs_per_s"]) == code


def test_a_measurement_is_a_process_that_prints_a_number() -> None:
    assert run_for_number(["-c", "print(2.5)"], timeout=30) == 2.5


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError('no luck')", "ValueError: no luck"),
        ("raise ExceptionGroup('all', [ValueError('no luck')])", "ValueError: no luck"),
        ("raise SystemExit(3)", "exit code 3"),
        ("print('words')", "exit code 0"),
    ],
)
def test_a_measurement_that_fails_says_why_in_one_line(code: str, reason: str) -> None:
    with pytest.raises(MeasurementError, match=reason):
        run_for_number(["-c", code], timeout=30)


def test_a_measurement_that_takes_too_long_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    fifo = tmp_path / "held open by the child"
    os.mkfifo(fifo)
    child = f"import signal; file = open({str(fifo)!r}, 'w'); signal.pause()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)) as held:
        with pytest.raises(MeasurementError, match=r"no result within 0\.5 s"):
            run_for_number(["-c", code], timeout=0.5)
        os.set_blocking(held.fileno(), True)
        assert held.read() == "", "the end of the file is reached when nobody holds it open"


def test_this_project_has_every_figure_and_the_floor_all_that_it_has_features_for() -> None:
    assert [figure for figure in FIGURES if not DISCORO.has(figure)] == []
    only_here = {figure.name for figure in FIGURES if not FLOOR.has(figure)}
    assert only_here == {
        "bulk_shared_MBps",
        "job_latency_tls_us",
        "jobs_tls_per_s",
        "messages_tls_per_s",
        "messages_typed_per_s",
        "share_memory_MB",
        "share_s",
        "slow_neighbour_ratio",
        "status_unread_ratio",
        "status_read_ratio",
        "fanout_per_s",
        "newcomer_s",
        "next_computation_s",
        "metg_us",
        "placement_us",
        "placement_growth",
        "monitor_cost_percent",
        "watched_jobs_ratio",
        "cancel_1000_s",
    }
    systems = {system.name: system for system in (*SYSTEMS, PLAIN)}
    assert all(systems[figure.mark.of].has(figure) for figure in FIGURES if figure.mark and figure.mark.of)


def _figures_without_installing() -> Iterator[tuple[System, Figure]]:
    return ((system, figure) for system in (FLOOR, PEERS[0]) for figure in FIGURES if system.has(figure))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "figure"),
    [
        pytest.param(system, figure, id=f"{system.name}-{figure.name}")
        for system, figure in _figures_without_installing()
    ],
)
def test_every_figure_that_needs_no_installing_can_be_measured(system: System, figure: Figure) -> None:
    if isinstance(system, Peer):
        assert measure_peer(system, sys.executable, figure, seconds=0.01, timeout=30) > 0
    else:
        assert measure_in_process(system, figure, seconds=0.01, timeout=30) > 0


# --- peers in environments of their own


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    """A peer whose module stands in a folder of the test."""
    (tmp_path / "made_up.py").write_text(
        "import os\n"
        "def version(): return '7.1'\n"
        "def rate(seconds): print('noise'); os.system('echo noise; cat'); return 40 * seconds\n"
        "def delay(seconds): raise ValueError('no\\nluck')\n"
        "def hang(seconds): import time; time.sleep(60)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(_processes, "PYTHON_PATH", (*_processes.PYTHON_PATH, str(tmp_path)))
    return Peer("made up", "made_up")


def test_a_peer_reports_its_version_and_its_values_whatever_it_prints(made_up: Peer) -> None:
    assert version_of(made_up, sys.executable) == "7.1"
    assert measure_peer(made_up, sys.executable, RATE, seconds=0.5, timeout=30) == 20.0


def test_a_peers_error_is_one_line(made_up: Peer) -> None:
    with pytest.raises(MeasurementError, match=r"\AValueError: no luck\Z"):
        measure_peer(made_up, sys.executable, DELAY, seconds=0.5, timeout=30)


def test_a_peer_that_takes_too_long_is_ended(made_up: Peer) -> None:
    with pytest.raises(MeasurementError, match=r"no result within 1 s"):
        measure_peer(made_up, sys.executable, Figure("hang", "s", "lower"), seconds=0.5, timeout=1.0)


def test_one_process_answers_request_after_request(made_up: Peer) -> None:
    requests = [
        {"figure": "rate", "arguments": [1]},
        {"figure": "delay", "arguments": [1]},
        {"figure": "rate", "arguments": [2]},
    ]
    text = "".join(json.dumps(request) + "\n" for request in requests)
    command = [sys.executable, "-m", "benchmarks.peer_systems.serve", made_up.package]
    output, _ = _processes.run_for_output(command, timeout=30, request=text)
    assert [json.loads(line) for line in output.splitlines()] == [
        {"peer": "made_up", "version": "7.1"},
        {"figure": "rate", "value": 40},
        {"figure": "delay", "error": "ValueError: no luck"},
        {"figure": "rate", "value": 80},
    ]


@pytest.mark.parametrize(
    ("jobs", "speeds", "expected"),
    [
        ([3, 1, 1, 1], [1.0, 1.0], 3.0),
        ([1, 1, 1, 3], [1.0, 1.0], 4.0),
        ([2, 2, 2], [1.0, 0.5], 4.0),
        ([1, 4], [1.0, 0.5], 5.0),
    ],
)
def test_the_ideal_gives_each_job_to_the_server_that_ends_it_first(
    jobs: list[float], speeds: list[float], expected: float
) -> None:
    assert _uneven.greedy(jobs, speeds) == expected
    work: list[_uneven.Job] = [("work", seconds) for seconds in jobs]
    waits: list[_uneven.Job] = [("wait", 4.5)] * 9
    assert _uneven.ideal(work + waits, [*jobs, *[0.0] * 9], speeds) == max(expected, 4.5)


def test_a_peer_runs_sets_of_uneven_jobs() -> None:
    pool = next(peer for peer in PEERS if peer.has_function("uneven"))
    sets: list[list[_uneven.Job]] = [[("work", 0.02), ("wait", 0.01)], [("work", 0.01)]]
    found = sets_of_peer(pool, sys.executable, 2, sets, asleep=True, timeout=60)
    assert [len(one) for one in found] == [3, 2]
    for (took, *taken), jobs in zip(found, sets, strict=True):
        assert took >= max(taken)
        assert all(seconds >= wanted for seconds, (_, wanted) in zip(taken, jobs, strict=True))


def test_a_peer_that_cannot_be_had_is_named_with_the_reason(
    made_up: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_command: str) -> NoReturn:
        reason = "it cannot be installed"
        raise NotAvailable(reason)

    monkeypatch.setattr(_environments, "_run", refuse)
    peers = [
        Peer("absent", "no.absent"),
        Peer("without its program", "no.program", program="no-program-has-this-name"),
        Peer("unknown to the index", "no.index", requires=("no-such-package==1",)),
        made_up,
    ]
    ready, missing = prepare(peers, folder=tmp_path)
    assert ready == {"made up": Ready(sys.executable, "7.1")}
    assert missing == {
        "absent": "ModuleNotFoundError: No module named 'no'",
        "without its program": "no-program-has-this-name is not on PATH",
        "unknown to the index": "it cannot be installed",
    }


def test_what_an_installer_says_is_the_reason_in_one_line() -> None:
    code = "import sys; sys.exit('error: no\\n   such package')"
    with pytest.raises(NotAvailable, match=r"\Ait cannot be installed: error: no such package\Z"):
        _environments._run(sys.executable, "-c", code)


def test_an_environment_is_made_once_for_its_requirements_and_each_time_for_the_newest(
    made_up: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[tuple[str, ...]] = []

    def install(kept: Path, _python: str, requirements: Sequence[str], *, upgrade: bool) -> None:
        installed.append((*requirements, str(upgrade)))
        (kept / "bin").mkdir(parents=True, exist_ok=True)
        (kept / "bin" / "python").unlink(missing_ok=True)
        (kept / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(_environments, "_install", install)
    peer = attrs.evolve(made_up, requires=("made-up==7.1", "other==2"))
    for newest in (False, False, True, True):
        assert prepare([peer], folder=tmp_path / "kept", newest=newest)[1] == {}
    assert installed == [("made-up==7.1", "other==2", "False"), *[("made-up", "other", "True")] * 2]


def test_every_peer_is_pinned_and_has_a_figure_and_its_shortest_program() -> None:
    for peer in PEERS:
        assert all("==" in requirement for requirement in peer.requires)
        assert any(peer.has(figure) for figure in FIGURES), peer.name
        module = ROOT.joinpath(*peer.package.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        for program_name in re.findall(r'startup\("(\w+)"', module):
            assert (ROOT / "benchmarks" / "peer_systems" / "first_result" / f"{program_name}.py").exists()


def test_an_unknown_peer_is_refused(measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--peers", "dask,sparc"])
    assert "no system is called sparc" in capsys.readouterr().err
    assert not measured


def test_only_the_named_peers_are_measured(measured: list[str]) -> None:
    assert program.main(["--quick", "--peers", "process_pool", "jobs_per_s"]) == 0
    assert set(measured) == {"discoro jobs_per_s", "floor jobs_per_s", "ProcessPoolExecutor jobs_per_s"}


# --- the pages


def test_the_pages_say_what_the_results_say() -> None:
    assert [str(path) for path in page.stale()] == [], "run `python -m benchmarks.page`"


def test_a_region_is_replaced_and_nothing_else() -> None:
    text = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter <!-- b: begin -->\n"
    assert replaced(text, "a", r"new \1") == text.replace("old", r"new \1")
    with pytest.raises(ValueError, match="0 regions 'b', expected one"):
        replaced(text, "b", "new")


def test_the_tables_show_medians_spreads_advantages_and_marks() -> None:
    spreads = {"discoro": (2.7, 3.3)}
    run = Run([Result(FIGURES[0], {"discoro": 3.0, "floor": 6.0, "fast": 1.0, "slow": 4.0}, spreads=spreads)])
    row = _figures.ours(run).splitlines()[2]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("`jobs_per_s`", "jobs/s, higher is better", "3.00 ±10%", "6.00", "0.500", "slow: 4.00", "0.750"),
        "≥ 0.5 of floor: reached",
    ]
    assert _figures.peers(run).splitlines()[2] == "| `jobs_per_s` | jobs/s | 3.00 | 1.00 | **4.00** |"


def test_the_page_names_each_better_peer_and_each_missed_mark() -> None:
    lower = next(figure for figure in FIGURES if figure.name == "job_latency_us")
    run = Run([Result(lower, {"discoro": 4.0, "floor": 2.0, "fast": 3.0, "equal": 3.9, "slow": 5.0})])
    assert _figures.behind(run).splitlines() == [
        "- `job_latency_us`: fast 3.00 µs, discoro_trio 4.00.",
        "- `job_latency_us`: 4.00 µs; the mark is ≤ 1.5 of floor: **missed**.",
    ]


def test_the_page_names_what_failed_and_what_was_not_measured() -> None:
    run = Run([Result(RATE, {}, {"broken": "it broke"})], not_measured={"absent": "no wheel", "other": "no wheel"})
    assert _figures.missing(run).splitlines() == [
        "- absent, other: no wheel.",
        "- broken failed at `rate`: it broke.",
    ]


def test_the_number_of_rounds_can_be_given(measured: list[str]) -> None:
    assert program.main(["--quick", "--rounds", "2", "--peers", ",", "jobs_per_s"]) == 0
    assert measured == ["discoro jobs_per_s", "floor jobs_per_s"] * 2
