"""Writes the tables and plots of the documentation from the results in `benchmarks/results`.

No figure of a page is written by hand: each stands in a region between two comments, which `_regions` replaces.
"""
