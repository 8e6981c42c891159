"""What a peer can do to a coroutine that another peer has started: one table of all frames.

A kind of frame without a row fails. The frames of a link itself, and what is malformed, are in `test_every_frame.py`;
requests and notices are in `tests/client/test_authorisation.py`.
"""

from __future__ import annotations

import pytest
import trio

from discoro_trio import ProtocolError
from discoro_trio._link import Trust, control
from discoro_trio._link._requests import REQUEST
from discoro_trio._process.execution._begun_reports import SERIAL
from discoro_trio._process.execution._definitions import NUMBER
from discoro_trio._process.execution._runner import SIZE, Attach
from discoro_trio._process.messaging._mailbox import CREDIT
from discoro_trio._shipping import dumps
from discoro_trio._wire import Kind

from .peers import LANE, frame, open_peer
from .worlds import settle

THEIRS = LANE | 1
"""The coroutine of the first peer."""
NOT_ITS_OWN, NEVER_STARTED = "a coroutine that is not its own", "a coroutine that was never started there"
BODIES = {
    Kind.BATCH: b"\x91\x01",
    Kind.CREDIT: CREDIT.pack(1, 1),
    Kind.MESSAGE: dumps("a message")[0],
    Kind.READY: SIZE.pack(9),
    Kind.START: NUMBER.pack(1) + dumps(())[0],
}
OF_ALL = dict.fromkeys((Kind.BEGUN, Kind.RETURNED, Kind.REVOKE), SERIAL.pack(THEIRS))
"""Frames whose body is a list of coroutines."""

# For a program with the secret, and for a job of another computation that was introduced: the text of the error that
# ends its connection, "taken", or "ignored".
TABLE: dict[Kind, tuple[str, str]] = {
    Kind.START: (NOT_ITS_OWN, NOT_ITS_OWN),
    Kind.DEFINE: ("ignored", "before it was attached"),  # its own definitions are apart from those of others
    Kind.REVOKE: (NOT_ITS_OWN, NOT_ITS_OWN),
    Kind.FETCH: (NOT_ITS_OWN, NOT_ITS_OWN),
    Kind.CANCEL: ("taken", "ignored"),
    Kind.MESSAGE: ("taken", "taken"),  # to any coroutine: handles are passed on
    Kind.BATCH: ("taken", "taken"),
    Kind.CREDIT: ("ignored", "ignored"),
    Kind.ACK: ("ignored", "ignored"),
    Kind.STARTED: (NEVER_STARTED, NEVER_STARTED),
    Kind.BEGUN: (NEVER_STARTED, NEVER_STARTED),
    Kind.RETURNED: (NEVER_STARTED, NEVER_STARTED),
    Kind.OUTCOME: (NEVER_STARTED, NEVER_STARTED),
    Kind.READY: (NEVER_STARTED, NEVER_STARTED),
    Kind.OUTPUT: ("no service here takes", "no service here takes"),
    Kind.SHARED: ("malformed frame of shared buffers", "malformed frame of shared buffers"),
}
OF_THE_LINK = {Kind.CONTROL, Kind.BULK, Kind.PART, Kind.ABORT, Kind.HELLO}


def test_every_kind_of_frame_has_a_row() -> None:
    assert TABLE.keys() | OF_THE_LINK == set(Kind)


async def wait_for_ever() -> None:
    await trio.sleep_forever()


@pytest.mark.spec("B07", "S104")
@pytest.mark.fault("F14")
@pytest.mark.parametrize("introduced", [False, True], ids=["a program", "an introduced job"])
@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.name)
async def test_a_peer_reaches_a_coroutine_of_another_peer_in_the_ways_of_the_table_alone(
    kind: Kind,
    introduced: bool,  # noqa: FBT001 - a parameter
) -> None:
    expected = TABLE[kind][introduced]
    async with open_peer() as starter:
        process = starter.process
        body = NUMBER.pack(1) + dumps(())[0]
        await starter.send(frame(Kind.DEFINE, 1, dumps(wait_for_ever)[0]) + frame(Kind.START, THEIRS, body))
        await settle()
        local = process.locals[THEIRS]
        realm = b"another computation" if introduced else b""
        if introduced:
            process.introductions._admitted[realm] = True
        async with open_peer(process, trust=Trust.LEASE if introduced else Trust.SECRET, realm=realm) as other:
            target = 0 if kind in OF_ALL else THEIRS
            await other.send(frame(kind, target, OF_ALL.get(kind, BODIES.get(kind, b""))))
            await other.send(frame(Kind.CONTROL, 1000, control.encode(Attach()), REQUEST))
            await other.until_answered(1000)
            await settle()
            if expected in {"taken", "ignored"}:
                assert not other.link.lost, other.link.error
            else:
                assert isinstance(other.link.error, ProtocolError)
                assert expected in str(other.link.error)
        arrived = local.mailbox is not None and bool(local.mailbox)
        assert arrived == (expected == "taken" and kind is not Kind.CANCEL)
        assert local.cancelled == (expected == "taken" and kind is Kind.CANCEL)
        assert (THEIRS in process.locals) == (not local.cancelled)
        assert not starter.link.lost
