"""The programs of the command line: `discoronode`, `discoro`, and `python -m discoro_trio`.

This layer owns options, configuration files, logs, signals and terminal output. `_cluster` does the programs' work.
"""

from ._start import run_discoro, run_node, run_package

__all__ = ["run_discoro", "run_node", "run_package"]
