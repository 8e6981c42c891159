"""Runs the coroutines of one process, and keeps the starters' records of them."""
