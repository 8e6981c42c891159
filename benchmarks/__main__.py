"""``python -m benchmarks [OPTIONS] [NAMES…]``: options, then environments of the peers, rounds, and the report."""

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

from attrs import evolve

from benchmarks import _machine
from benchmarks._environments import FOLDER, prepare
from benchmarks._figures import FIGURES
from benchmarks._network import open_namespaces
from benchmarks._peer_process import measure_peer
from benchmarks._processes import measure_in_process
from benchmarks._report import report
from benchmarks._results import Result, Run, as_json
from benchmarks._rounds import QUICK, THOROUGH, Plan, alternate
from benchmarks._systems import DISCORO, FLOOR, PEERS, SYSTEMS, Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks._environments import Ready
    from benchmarks._figures import Figure
    from benchmarks._systems import System

BAD_USE = 2
ALONE = ("makespan", "growth", "savina")
"""Measurements that are no figure; each is asked for alone."""
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
    if mistake := _mistake(options.names, options.json):
        print(mistake, file=sys.stderr)
        return BAD_USE
    if set(options.names) & set(ALONE):
        return int(not _measured_alone(options))
    plan = _plan(options)
    conditions = {**_machine.described(), "rounds": plan.rounds, "seconds": plan.seconds}
    figures, systems, not_measured = _chosen(options)
    peers = [system for system in systems if isinstance(system, Peer)]
    ready, unavailable = prepare(peers, folder=options.environments, newest=options.newest)
    systems = [system for system in systems if system.name not in unavailable]
    print(_headline(plan))
    measure = partial(_measure, ready, plan)
    with open_namespaces() if options.network else nullcontext():
        results = [_result(figure, systems, measure, plan) for figure in figures]
    versions = {name: one.version for name, one in ready.items()}
    run = Run(results, conditions, versions, not_measured | unavailable)
    print(report(run))
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(run), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    incomplete = any({DISCORO.name, FLOOR.name} & result.failures.keys() for result in results)
    return int(incomplete)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this project, the floor and other systems, each in an environment of its own.",
    )
    parser.add_argument(
        "names", metavar="NAMES", nargs="*", help=f"of {_known()}; all by default; or {' or '.join(ALONE)}, alone"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    parser.add_argument(
        "--quick", action="store_true", help="fewer, shorter rounds; no other system but ProcessPoolExecutor"
    )
    parser.add_argument("--rounds", metavar="N", type=int, help="measure every figure so often")
    parser.add_argument(
        "--network", action="store_true", help="the figures over TLS alone, between two network namespaces; needs root"
    )
    parser.add_argument(
        "--peers", metavar="NAMES", type=_names, help=f"only these other systems, as `--peers ray,pycos`; of {_peers()}"
    )
    parser.add_argument(
        "--newest", action="store_true", help="the newest versions of other systems, not the pinned ones"
    )
    parser.add_argument(
        "--environments",
        metavar="FOLDER",
        type=Path,
        default=FOLDER,
        help=f"where they are installed; default: {FOLDER}",
    )
    return parser


def _known() -> str:
    return ", ".join(figure.name for figure in FIGURES)


def _peers() -> str:
    return ", ".join(map(_short, PEERS))


def _short(peer: Peer) -> str:
    """Return the name that `--peers` takes: that of the peer's module."""
    return peer.package.rpartition(".")[2]


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := set(names) - set(map(_short, PEERS)):
        message = f"no system is called {', '.join(sorted(unknown))}; known are {_peers()}"
        raise argparse.ArgumentTypeError(message)
    return names


def _mistake(names: Sequence[str], file: Path | None) -> str | None:
    if len(names) > 1 and (alone := sorted(set(names) & set(ALONE))):
        return f"{alone[0]} is measured alone, but other names are given, too"
    known = {*ALONE, *(figure.name for figure in FIGURES)}
    if unknown := [name for name in names if name not in known]:
        return f"no figure is called {', '.join(unknown)}; known are {_known()}; or one of {', '.join(ALONE)}"
    if file is not None and not file.absolute().parent.is_dir():
        return f"--json {file}: there is no folder {file.parent}"
    return None


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else THOROUGH
    return plan if options.rounds is None else evolve(plan, rounds=max(1, options.rounds), budget=float("inf"))


def _chosen(options: argparse.Namespace) -> tuple[list[Figure], list[System], dict[str, str]]:
    """Return what is measured, and why other systems are not."""
    figures = [figure for figure in FIGURES if not options.names or figure.name in options.names]
    if options.network:  # nothing between two hosts is without TLS, and the peers have none
        return [figure for figure in figures if figure.network], [DISCORO, FLOOR], {}
    systems: list[System] = []
    left_out: dict[str, str] = {}
    for system in SYSTEMS:
        if isinstance(system, Peer) and options.peers is not None and _short(system) not in options.peers:
            left_out[system.name] = "--peers does not name it"
        elif options.quick and not system.quick and options.peers is None:
            left_out[system.name] = "--quick leaves it out"
        elif any(system.has(figure) for figure in figures):
            systems.append(system)
    return figures, systems, left_out


def _measured_alone(options: argparse.Namespace) -> bool:
    """Measure what is no figure; tell whether all is well."""
    # These import what they measure.
    if options.names == ["growth"]:
        from benchmarks.growth import _run  # noqa: PLC0415

        return _run.run(options.json, quick=options.quick)
    if options.names == ["savina"]:
        from benchmarks.savina import _run as _savina  # noqa: PLC0415

        return _savina.run(options.json, quick=options.quick)
    from benchmarks import _makespan  # noqa: PLC0415

    return _makespan.run(quick=options.quick, peers=options.peers, folder=options.environments)


def _headline(plan: Plan) -> str:
    machine = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before"
    rounds = f"medians of {plan.rounds} rounds that alternate between the systems"
    return f"Python {platform.python_version()}, {machine}; {rounds}\n"


def _result(figure: Figure, systems: Sequence[System], measure: Callable[..., float], plan: Plan) -> Result:
    if sys.stderr.isatty():
        print(f"measuring {figure.name} …", file=sys.stderr)
    outcome = alternate([system for system in systems if system.has(figure)], partial(measure, figure), plan)
    return Result(figure, outcome.medians(), outcome.failures, outcome.spreads())


def _measure(ready: Mapping[str, Ready], plan: Plan, figure: Figure, system: System) -> float:
    if isinstance(system, Peer):
        python = ready[system.name].python
        return measure_peer(system, python, figure, seconds=plan.seconds, timeout=plan.timeout)
    return measure_in_process(system, figure, seconds=plan.seconds, timeout=plan.timeout)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
