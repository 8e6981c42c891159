"""Isolation of servers: control groups, limits, and users of the machine."""
