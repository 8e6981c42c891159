"""Discovery on the local networks: the interfaces of this machine, and the queries and answers sent over them."""
