"""``python -m benchmarks [--json FILE] [--quick] [--network] [NAMES…]``: options, then rounds, then the report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._figures import FIGURES
from benchmarks._network import open_namespaces
from benchmarks._processes import measure_in_process
from benchmarks._report import report
from benchmarks._results import Result, as_json
from benchmarks._rounds import QUICK, THOROUGH, Plan, alternate
from benchmarks._systems import DISCORO, FLOOR, SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._figures import Figure
    from benchmarks._systems import System

BAD_USE = 2
MAKESPAN = "makespan"
"""The name of the table of whole sets of jobs; it is asked for alone."""
INTERRUPTED = 130
"""What shells show for a program that Ctrl-C has ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: The command line; None: this process's own.

    Returns:
        0; 1 if this project or the floor has no value for a figure; 2 for bad use.
    """
    options = _parser().parse_args(arguments)
    if options.names == [MAKESPAN]:
        from benchmarks import _makespan  # noqa: PLC0415 - it imports what it measures

        return int(not _makespan.run(quick=options.quick))
    if mistake := _mistake(options.names, options.json):
        print(mistake, file=sys.stderr)
        return BAD_USE
    plan = QUICK if options.quick else THOROUGH
    figures = _chosen(options.names)
    if options.network:  # nothing between two hosts is without TLS, and the peers have none
        figures, systems = [figure for figure in figures if figure.network], [DISCORO, FLOOR]
    else:
        systems = [s for s in SYSTEMS if s.installed() and (s.quick or not options.quick)]
    print(_headline(plan))
    with open_namespaces() if options.network else nullcontext():
        results = [_result(figure, systems, plan) for figure in figures]
    print(report(results, [system for system in SYSTEMS if system not in systems]))
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(results), indent=2) + "\n", encoding="utf-8")
    incomplete = any({DISCORO.name, FLOOR.name} & result.failures.keys() for result in results)
    return int(incomplete)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this project, the floor and the peers that are installed.",
    )
    parser.add_argument("names", metavar="NAMES", nargs="*", help=f"of {_known()}; all by default; or {MAKESPAN} alone")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="fewer, shorter rounds; no peer but ProcessPoolExecutor")
    parser.add_argument(
        "--network", action="store_true", help="the figures over TLS alone, between two network namespaces; needs root"
    )
    return parser


def _known() -> str:
    return ", ".join(figure.name for figure in FIGURES)


def _mistake(names: Sequence[str], file: Path | None) -> str | None:
    known = {figure.name for figure in FIGURES}
    if unknown := [name for name in names if name not in known]:
        return f"no figure is called {', '.join(unknown)}; known are {_known()}"
    if file is not None and not file.absolute().parent.is_dir():
        return f"--json {file}: there is no folder {file.parent}"
    return None


def _chosen(names: Sequence[str]) -> list[Figure]:
    return [figure for figure in FIGURES if not names or figure.name in names]


def _headline(plan: Plan) -> str:
    machine = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before"
    rounds = f"medians of {plan.rounds} rounds that alternate between the systems"
    return f"Python {platform.python_version()}, {machine}; {rounds}\n"


def _result(figure: Figure, systems: Sequence[System], plan: Plan) -> Result:
    if sys.stderr.isatty():
        print(f"measuring {figure.name} …", file=sys.stderr)
    measure = partial(_measure, figure, plan)
    outcome = alternate([system for system in systems if system.has(figure)], measure, plan)
    return Result(figure, outcome.medians(), outcome.failures)


def _measure(figure: Figure, plan: Plan, system: System) -> float:
    return measure_in_process(system, figure, seconds=plan.seconds, timeout=plan.timeout)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
