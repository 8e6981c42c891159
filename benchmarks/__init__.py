"""Measures discoro_trio, the floor and installed peers in one run: ``python -m benchmarks``.

One folder a system (`discoro`, `floor`, and those below `peers`), in it one module a figure, with a
function ``measure(seconds) -> float``. What a figure means stands in `_figures`, which systems there
are in `_systems`. Each measurement is a process of its own (`measure`), so that nothing leaks from one
into the next; `_rounds` alternates between the systems, `_report` prints.
"""
