"""The programs of all systems for the same figure, side by side, as directives that include the measured sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks._figures import FIGURES
from benchmarks._systems import DISCORO, PEERS

if TYPE_CHECKING:
    from benchmarks._figures import Figure
    from benchmarks._results import Run

SHOWN = ("jobs_per_s", "jobs_chunked_per_s", "message_roundtrip_us", "share_s")
"""The figures whose programs are shown."""
_ELSEWHERE = {
    "jobs_per_s": ("discoro/_jobs.py", "measure_jobs"),
    "message_roundtrip_us": ("discoro/_round_trips.py", "median_round_trip"),
}
"""Where this project's program is, if it is not `measure` of the figure's own module."""


def programs(_run: Run) -> str:
    """Return the directives, by figure."""
    figures = {figure.name: figure for figure in FIGURES}
    return "\n\n".join(f"### {name}\n\n{_side_by_side(figures[name])}" for name in SHOWN)


def _side_by_side(figure: Figure) -> str:
    file, function = _ELSEWHERE.get(figure.name, (f"discoro/{figure.module}.py", "measure"))
    blocks = [_include(DISCORO.name, file, function)]
    for peer in PEERS:
        if peer.has(figure) and peer.requires:
            module = peer.package.removeprefix("benchmarks.").replace(".", "/")
            blocks.append(_include(peer.name, f"{module}.py", figure.module))
    return "\n\n".join([":::{container} side-by-side", *blocks, ":::"])


def _include(title: str, file: str, function: str) -> str:
    options = f":language: python\n:pyobject: {function}\n:caption: {title}"
    return f"```{{literalinclude}} ../benchmarks/{file}\n{options}\n```"
