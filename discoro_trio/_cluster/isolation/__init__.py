"""What keeps servers apart: control groups, limits, users of the machine."""
