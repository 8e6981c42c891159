"""Other systems, one module each: a function a figure, in the way that the system's own documentation recommends.

A module runs in its system's own environment, so it imports nothing but that system, numpy where it needs it, and those
modules of `benchmarks` that need the standard library alone.
"""
