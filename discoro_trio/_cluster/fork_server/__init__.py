"""The fork server: the small process of a node that forks servers, and the node's side of it."""
