"""Names of coroutines, channels and RCIs, and the links that looking one up allows."""
