"""The programs of the command line: `discoronode`, `discoro`, and `python -m discoro_trio`.

This layer owns options, configuration files, logs, signals and what a person sees. What the programs then do is with
`_cluster`.
"""

from ._start import run_discoro, run_node, run_package

__all__ = ["run_discoro", "run_node", "run_package"]
