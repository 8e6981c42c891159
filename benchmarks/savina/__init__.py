"""Public workloads by their names, of actors and of dependent tasks: ``python -m benchmarks savina``.

S. Imam and V. Sarkar, "Savina - An Actor Benchmark Suite" (AGERE 2014), describes the workloads of actors; E. Slaughter
et al., "Task Bench: A Parameterized Benchmark for Evaluating Parallel Runtime Performance" (SC 2020), the patterns.
They are written here from those descriptions. The actors in `_workloads` run unchanged on each stage of `_stages`.
"""
