"""Names of coroutines, channels and RCIs, and the connections that looking up a name allows."""
