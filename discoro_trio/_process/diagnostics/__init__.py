"""Task dumps: the tasks of a process and their stacks, for finding the cause of a hang."""
