"""Chat over a channel that any program on the network can join.

Without options the program opens the room, starts two guests as programs of their own, lets them talk, and ends.
With --open it opens the room and stays; with --join it joins one, and sends what is typed.
"""

from __future__ import annotations

import argparse
import sys

import trio

import discoro_trio as discoro

ROOM = "chat room"
LINES = {"ann": ["Hello, is anybody here?", "Nice to meet you."], "bob": ["I am.", "See you!"]}


async def talk(room: discoro.Channel, name: str, lines: list[str]) -> None:
    """Send lines, each when the one before is with everybody; read them from the terminal if none are given."""
    for line in lines:
        await room.deliver(f"{name}: {line}", n=3)
    while not lines:
        typed = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        if not typed:
            break
        await room.send(f"{name}: {typed.rstrip()}")


async def join(location: discoro.Location, name: str, lines: list[str]) -> None:
    """Join a room of another program, talk, and show what others say until the room is closed."""
    async with discoro.open_endpoint():
        room = await discoro.locate_channel(ROOM, location=location)
        async with room.subscribe() as messages, trio.open_nursery() as nursery:
            nursery.start_soon(talk, room, name, lines)
            async for message in messages:
                if not lines:
                    print(message)
            nursery.cancel_scope.cancel()


async def open_room(guests: list[str]) -> None:
    """Open the room, show what is said, and close it when the guests have said all that they had to; or never."""
    async with discoro.open_endpoint() as endpoint, trio.open_nursery() as programs:
        async with discoro.open_channel(ROOM, public=True) as room, room.subscribe() as messages:
            print(f"the room is open: {sys.argv[0]} --join {endpoint.location}")
            for name in guests:
                command = [sys.executable, __file__, "--join", str(endpoint.location), "--name", name, "--demo"]
                programs.start_soon(trio.run_process, command)
            expected = sum(len(LINES[name]) for name in guests)
            async for message in messages:
                print(message)
                expected -= 1
                if not expected:
                    break
        print("the room is closed")
    print("everybody has gone")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open", action="store_true", help="open the room and stay")
    parser.add_argument("--join", metavar="HOST:PORT", help="join the room of another program")
    parser.add_argument("--name", default="guest", help="what the others see (default: guest)")
    parser.add_argument("--demo", action="store_true", help="say what was prepared for that name")
    options = parser.parse_args()
    status = 0
    try:
        if options.join:
            prepared = LINES[options.name] if options.demo else []
            trio.run(join, discoro.Location.parse(options.join), options.name, prepared)
        else:
            trio.run(open_room, [] if options.open else list(LINES))
    except* KeyboardInterrupt:
        status = 130
    sys.exit(status)
