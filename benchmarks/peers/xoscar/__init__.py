"""xoscar with one actor in a process of its own, on loopback TCP."""
