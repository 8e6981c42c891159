"""A bare Trio program: starts one Python process that imports Trio, and prints its first result."""

import pickle
import subprocess
import sys

import trio

WORKER = """
import pickle, sys, trio

async def main() -> int:
    return pickle.load(sys.stdin.buffer) + 1

pickle.dump(trio.run(main), sys.stdout.buffer)
"""


async def main() -> None:
    """Send the worker a number, and print what comes back."""
    worker = await trio.lowlevel.open_process(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    await worker.stdin.send_all(pickle.dumps(41))
    print(pickle.loads(await worker.stdout.receive_some()), flush=True)
    await worker.wait()


if __name__ == "__main__":
    trio.run(main)
