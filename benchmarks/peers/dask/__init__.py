"""dask.distributed with a local cluster of processes; messages are calls of an actor."""
