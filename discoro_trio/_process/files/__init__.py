"""Files between processes."""
