"""Remote coroutine invocation: functions that a process offers by name."""
