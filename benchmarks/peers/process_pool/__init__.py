"""ProcessPoolExecutor of the standard library, with as many workers as the others have."""
