"""TLS on the connections that leave a machine: certificates, and the stream between a link and its socket."""
