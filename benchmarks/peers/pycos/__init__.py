"""pycos, the old system's successor: dispycos jobs on a node with servers, and messages between tasks."""
