"""The node: the servers of one machine, and the leases on them."""
