"""Ray with a local cluster of processes."""
