"""This project over TCP without TLS: what the figures over TLS are compared with."""
