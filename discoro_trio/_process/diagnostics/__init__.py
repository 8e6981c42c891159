"""Task dumps: what runs in a process, for finding the cause of a hang."""
