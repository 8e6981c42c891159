"""What runs on the node's servers.

It is shipped as source text and compiled there without this module: no function uses a name from
outside itself, and annotations are texts, so that they are not looked up.
"""

import typing

if typing.TYPE_CHECKING:
    from collections.abc import Generator

    import pycos

    Steps = Generator[typing.Any, typing.Any, typing.Any]


def increment(value: int, task: "pycos.Task" = None) -> "Steps":  # noqa: ARG001
    """Do the least that a job can do."""
    yield None
    return value + 1


def echo(client: "pycos.Task", task: "pycos.Task" = None) -> "Steps":
    """Send back each message until None."""
    while True:
        message = yield task.receive()
        if message is None:
            return
        client.send(message)


def count(client: "pycos.Task", batch: int, task: "pycos.Task" = None) -> "Steps":
    """Count messages until None, and tell the client of each full batch."""
    total = 0
    while (yield task.receive()) is not None:
        total += 1
        if total % batch == 0:
            client.send(total)
