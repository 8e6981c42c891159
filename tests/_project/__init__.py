"""Programs that look at the project itself: its rows of conformance, its structure, its totals."""
