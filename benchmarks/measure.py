"""One measurement in a process of its own: ``python -m benchmarks.measure MODULE SECONDS``.

MODULE is a figure's module in a system's package; it has ``measure(seconds)``. Standard output gets
one JSON number and nothing else: what the system prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys


def main(module: str, seconds: str) -> None:
    """Measure, and print the number. SIGTERM ends it as an exit would, with its cleaning up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)
        value: float = importlib.import_module(module).measure(float(seconds))
        print(json.dumps(value), file=output)


if __name__ == "__main__":
    main(*sys.argv[1:])
