"""Other systems under measurement. ProcessPoolExecutor is always there; the rest when installed."""
