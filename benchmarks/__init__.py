"""Measures discoro_trio, the floor and other systems in one run: ``python -m benchmarks``.

`discoro` and `floor` have one module a figure, with a function ``measure(seconds) -> float``; `peer_systems` has one
module a system, with a function a figure, which runs in an environment of its own (`_environments`). The figures stand
in `_figures`, the systems in `_systems`. Each measurement is a process of its own (`measure`, or `peer_systems.serve`),
so that nothing leaks from one into the next; `_rounds` alternates between the systems, `_report` prints, and `page`
writes the tables of the documentation.
"""
