"""How this project grows with servers, clients, bytes, coroutines and subscribers: ``python -m benchmarks growth``.

`_series` says what is measured, `point` measures one point of a series in a process of its own, `_fit` fits curves, and
`_run` writes all of it as JSON. `benchmarks.page` draws it.
"""
