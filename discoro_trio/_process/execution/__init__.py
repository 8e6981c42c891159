"""Coroutines of one process: started, run, ended; the records of those who started them."""
