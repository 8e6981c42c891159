"""A peer's side of a measurement, run by its own environment: ``python -m benchmarks.peer_systems.serve MODULE``.

It speaks JSON, one object a line. The first line that it writes names the version of the peer; then it reads requests
from standard input until that ends, and answers each of them::

    {"peer": "benchmarks.peer_systems.dask", "version": "2026.8.0"}
    ← {"figure": "jobs_per_s", "arguments": [1.0]}
    {"figure": "jobs_per_s", "value": 1375.2}
    ← {"figure": "jobs_chunked_per_s", "arguments": [1.0]}
    {"figure": "jobs_chunked_per_s", "error": "ValueError: no luck"}

MODULE has a function ``version() -> str`` and one for each figure, named after it, that takes the seconds; some have
``uneven``, which takes the workers, the sets of jobs and whether they sleep (`benchmarks._uneven`). This module
and all that peers import from `benchmarks` needs nothing but the standard library and what the peer's environment has.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

_LONGEST = 300
"""Characters of an error that are reported."""


def main(name: str) -> None:
    """Answer requests. SIGTERM ends it as an exit would, with the peer's cleaning up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # What the peer prints goes to standard error, and its processes read nothing of the requests.
    with os.fdopen(os.dup(0)) as requests, os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        module = importlib.import_module(name)
        print(json.dumps({"peer": name, "version": module.version()}), file=answers)
        for line in requests:
            print(json.dumps(_answer(module, json.loads(line))), file=answers)


def _answer(module: ModuleType, request: dict[str, Any]) -> dict[str, Any]:
    figure = request["figure"]
    try:
        return {"figure": figure, "value": getattr(module, figure)(*request["arguments"])}
    except Exception as error:  # noqa: BLE001 - the other side reports it and goes on
        return {"figure": figure, "error": " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]}


if __name__ == "__main__":
    main(sys.argv[1])
