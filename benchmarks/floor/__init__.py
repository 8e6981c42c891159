"""The floor: what bare Trio sockets and nurseries do on this machine, written as fast as they go.

It has no features: no hand-shake, no flow control, no scheduling, no errors that cross the network.
It is the yardstick of the other figures, so it is left alone unless it is shown to be slow.
"""
