"""Shared values: one copy on each machine, which all its servers map."""
