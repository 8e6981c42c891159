"""The server: a process that runs the coroutines of one computation."""
