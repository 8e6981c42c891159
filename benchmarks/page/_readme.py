"""The README's short table, from the same results as the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks._report import number
from benchmarks._systems import DISCORO
from benchmarks.page._regions import paragraph, table

if TYPE_CHECKING:
    from benchmarks._results import Result, Run

SYSTEMS = {
    DISCORO.name: "discoro_trio",
    "ProcessPoolExecutor": "ProcessPoolExecutor",
    "joblib": "joblib",
    "dask.distributed": "Dask",
    "Ray": "Ray",
}
ROWS = {
    "jobs_per_s": "small jobs a second",
    "jobs_chunked_per_s": "small jobs a second, 1,000 in a chunk",
    "job_latency_us": "one job, there and back",
    "message_roundtrip_us": "one message to a running job, there and back",
    "startup_s": "start of two workers, with a first result",
    "share_s": "64 MB for all workers",
    "newcomer_s": "10,000 uneven jobs over one array of 100 MB, all in all",
}
FEATURES = [
    ["jobs on other machines, messages between running jobs", "yes", "no", "no", "yes", "yes"],
    ["cancels a running job and waits for its clean-up", "yes", "no", "no", "no", "no"],
]


def short(run: Run) -> str:
    """Return the table, and where its figures come from."""
    results = {result.figure.name: result for result in run.results}
    rows = [
        [title, *(_shown(results[name], system) for system in SYSTEMS)]
        for name, title in ROWS.items()
        if name in results
    ]
    about = run.conditions
    source = (
        f"Medians of {about['rounds']} rounds of `python -m benchmarks` on {about['date']}; the last two lines are "
        "features. [Performance](docs/performance.md) has all figures, spreads, and where other systems are faster."
    )
    return f"{table([f'two workers, {_processor(run)}', *SYSTEMS.values()], rows + FEATURES)}\n\n{paragraph(source)}"


def _processor(run: Run) -> str:
    return f"{run.conditions['processors']} processors ({run.conditions['processor']})"


def _shown(result: Result, system: str) -> str:
    value = result.medians.get(system)
    if value is None:
        return ""
    if result.figure.unit == "µs":
        return f"{number(value / 1000)} ms"
    return f"{number(value)} s" if result.figure.unit == "s" else number(value)
