"""The scheduler: a state machine without I/O, and the Trio shell around it."""
