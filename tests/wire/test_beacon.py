from __future__ import annotations

import os
import pickle
import secrets
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoro_trio._values import Location
from discoro_trio._wire import Credential, Purpose, _beacon, handshake_key
from discoro_trio._wire._beacon import QUERY_SIZE, Answerer, Datagram, Found, Role, Seeker

if TYPE_CHECKING:
    from pathlib import Path

KEY, OTHER_KEY = bytes(32), b"\1" * 32
SECRET, OTHER_SECRET = Credential(b"", KEY), Credential(b"", OTHER_KEY)
ME, NODE = b"m" * 16, b"n" * 16
SOURCE = ("10.0.0.9", 4000)
PRESENCE = Found(NODE, Role.NODE, "node", Location("10.0.0.2", 5000))


def seeker(credential: Credential = SECRET, wanted: Role = Role.NODE) -> Seeker:
    return Seeker(credential, ME, wanted)


def answerer(credential: Credential = SECRET, presence: Found = PRESENCE) -> Answerer:
    return Answerer(credential, presence)


def ask(
    one: Answerer, query: bytes, source: tuple[str, int] = SOURCE, now: float = 0.0, *, own_machine: bool = False
) -> list[Datagram]:
    return one.received_untrusted(query, source, now, own_machine=own_machine)


@pytest.mark.spec("S36")
def test_a_process_of_a_wanted_role_answers_the_seeker_and_nobody_else() -> None:
    looking = seeker()
    (answer,) = ask(answerer(), looking.query())
    assert answer.to == SOURCE
    assert looking.received_untrusted(answer.body, "10.0.0.2") == PRESENCE


def test_a_process_that_knows_no_address_of_its_own_is_where_its_answer_comes_from() -> None:
    looking = seeker()
    (answer,) = ask(answerer(presence=Found(NODE, Role.NODE, "node", Location("", 5000))), looking.query())
    found = looking.received_untrusted(answer.body, "fe80::1%eth0")
    assert found is not None
    assert found.location == Location("fe80::1%eth0", 5000)


@pytest.mark.spec("S41")
def test_a_private_scheduler_is_found_by_nodes_and_not_by_clients() -> None:
    private = Found(NODE, Role.PRIVATE, "program", Location("10.0.0.2", 5000))
    assert not ask(answerer(presence=private), seeker(wanted=Role.SCHEDULER).query())
    assert ask(answerer(presence=private), seeker(wanted=Role.SCHEDULER | Role.PRIVATE).query())


def test_a_seeker_is_told_only_the_roles_that_it_wants() -> None:
    both = Found(NODE, Role.NODE | Role.SCHEDULER, "both", Location("10.0.0.2", 5000))
    looking = seeker()
    (answer,) = ask(answerer(presence=both), looking.query())
    found = looking.received_untrusted(answer.body, "")
    assert found is not None
    assert found.role == Role.NODE


def test_a_process_does_not_find_itself() -> None:
    assert not ask(answerer(), Seeker(SECRET, NODE, Role.NODE).query())


@pytest.mark.fault("F13")
def test_the_longest_answer_is_no_longer_than_the_query() -> None:
    long = Found(NODE, Role(7), "\N{SNOWMAN}" * 500, Location("x" * 255, 65535))
    query = seeker().query()
    (answer,) = ask(answerer(presence=long), query)
    assert len(query) == QUERY_SIZE
    assert len(answer.body) <= len(query)
    with pytest.raises(ValueError, match="at most 255 bytes"):
        answerer(presence=Found(NODE, Role.NODE, "", Location("x" * 256, 1)))


@pytest.mark.fault("F13")
def test_a_stranger_gets_no_answer() -> None:
    query = seeker().query()
    assert not ask(answerer(), seeker(OTHER_SECRET).query())
    assert not ask(answerer(), query[32:])
    assert not ask(answerer(), bytes(QUERY_SIZE))
    assert not ask(answerer(), b"")


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.fault("F13")
def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "made"))
    looking = seeker()
    looking.query()
    for body in (bomb, bomb.ljust(QUERY_SIZE, b"\0"), bytes(32) + bomb):
        assert not ask(answerer(), body)
        assert looking.received_untrusted(body, "") is None
    assert not (tmp_path / "made").exists()


@pytest.mark.fault("F13")
@given(st.binary(max_size=1200))
def test_arbitrary_bytes_are_dropped(body: bytes) -> None:
    assert not ask(answerer(), body)
    assert seeker().received_untrusted(body, "10.0.0.2") is None


@given(st.integers(0, QUERY_SIZE - 1), st.integers(1, 255))
def test_a_query_with_a_byte_changed_is_dropped(place: int, change: int) -> None:
    query = bytearray(seeker().query())
    query[place] ^= change
    assert not ask(answerer(), bytes(query))


@given(st.data())
def test_an_answer_with_a_byte_changed_is_dropped(data: st.DataObject) -> None:
    looking = seeker()
    body = bytearray(ask(answerer(), looking.query())[0].body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    assert looking.received_untrusted(bytes(body), "") is None


@pytest.mark.fault("F14")
def test_a_query_sent_back_is_no_answer_and_an_answer_no_query() -> None:
    looking = seeker()
    query = looking.query()
    assert looking.received_untrusted(query, "") is None
    (answer,) = ask(answerer(), query)
    assert not ask(answerer(), answer.body)


@pytest.mark.fault("F14")
def test_an_answer_counts_only_while_its_query_is_one_of_the_latest() -> None:
    looking = seeker()
    old = ask(answerer(), looking.query())[0].body
    older = ask(answerer(), looking.query())[0].body
    for _ in range(31):
        looking.query()
    assert looking.received_untrusted(older, "") == PRESENCE
    assert looking.received_untrusted(old, "") is None
    assert seeker().received_untrusted(older, "") is None


@pytest.mark.fault("F14")
def test_a_query_that_comes_again_is_not_answered_wherever_it_comes_from() -> None:
    one, query = answerer(), seeker().query()
    assert ask(one, query)
    assert not ask(one, query)
    assert not ask(one, query, ("10.0.0.10", 4000))


def test_answers_are_so_many_a_second_and_no_more() -> None:
    one, looking = answerer(), seeker()
    at_once = [bool(ask(one, looking.query())) for _ in range(300)]
    assert sum(at_once) == 200
    assert not any(at_once[200:])
    a_second_later = [bool(ask(one, looking.query(), now=1.0)) for _ in range(300)]
    assert sum(a_second_later) == 200


def test_what_is_remembered_of_queries_is_bounded() -> None:
    one, looking = answerer(), seeker()
    for second in range(50):
        for _ in range(100):
            ask(one, looking.query(), now=float(second))
    assert len(one._heard) == 4096


def test_a_query_that_reached_one_process_alone_is_relayed_to_its_machine() -> None:
    looking = seeker()
    scheduler = Found(b"s" * 16, Role.SCHEDULER, "scheduler", Location("10.0.0.2", 6000))
    (relayed,) = ask(answerer(presence=scheduler), looking.query(alone=True))
    assert relayed.to is None
    (answer,) = ask(answerer(), relayed.body, ("127.0.0.1", 51350), own_machine=True)
    assert answer.to == SOURCE
    assert looking.received_untrusted(answer.body, "") == PRESENCE


def test_the_process_that_it_reached_relays_and_answers_too() -> None:
    one = answerer()
    relayed, answer = ask(one, seeker().query(alone=True))
    assert (relayed.to, answer.to) == (None, SOURCE)
    assert not ask(one, relayed.body, ("127.0.0.1", 51350), own_machine=True), "it has answered already"


def test_a_query_to_ones_own_machine_is_relayed_to_the_others_there() -> None:
    (relayed,) = ask(answerer(), Seeker(SECRET, NODE, Role.NODE).query(alone=True))
    assert relayed.to is None


@pytest.mark.fault("F13")
def test_a_relayed_query_from_another_machine_is_dropped() -> None:
    relayed, _ = ask(answerer(), seeker().query(alone=True))
    assert not ask(answerer(), relayed.body, own_machine=False)


def test_while_the_secret_changes_either_is_answered_under_itself() -> None:
    staged = Credential(b"", KEY, (OTHER_KEY,))
    for credential in (SECRET, OTHER_SECRET):
        looking = seeker(credential)
        (answer,) = ask(answerer(staged), looking.query())
        assert looking.received_untrusted(answer.body, "") == PRESENCE


def test_both_sides_can_take_another_secret_while_they_look_and_answer() -> None:
    looking, answering = seeker(), answerer()
    answering.use(OTHER_SECRET)
    assert not ask(answering, looking.query())
    looking.use(OTHER_SECRET)
    (answer,) = ask(answering, looking.query())
    assert looking.received_untrusted(answer.body, "10.0.0.2") == PRESENCE


def sealed(content: object) -> bytes:
    """Make a datagram as one would who knows the secret and another version of the protocol."""
    import hmac  # noqa: PLC0415 - here alone

    body = msgspec.msgpack.encode(content)
    return hmac.digest(handshake_key(KEY, Purpose.DISCOVERY), body, "sha256") + body


@pytest.mark.fault("F17")
def test_a_later_version_may_say_more() -> None:
    query = {"type": "query", "nonce": secrets.token_bytes(16), "process_id": ME, "wanted": 1, "alone": False}
    padding = QUERY_SIZE - len(sealed({**query, "later": 1, "padding": bytes(300)})) + 300
    assert ask(answerer(), sealed({**query, "later": 1, "padding": bytes(padding)}))


@pytest.mark.parametrize(
    "change",
    [{"port": 0}, {"port": 65536}, {"port": "5000"}, {"process_id": b"short"}, {"role": 2}, {"role": 0}, {"type": "x"}],
)
def test_an_answer_with_a_wrong_field_is_dropped(change: dict[str, object]) -> None:
    looking = seeker()
    looking.query()
    answer = {
        "type": "answer",
        "nonce": looking._nonces[0],
        "process_id": NODE,
        "role": 1,
        "name": "node",
        "addr": "",
        "port": 5000,
    }
    assert looking.received_untrusted(sealed({**answer, **change}), "10.0.0.2") is None
    assert looking.received_untrusted(sealed({**answer, "process_id": b"o" * 16}), "10.0.0.2") is not None


def test_so_many_machines_with_another_secret_are_remembered() -> None:
    one, query = answerer(), seeker(OTHER_SECRET).query()
    for number in range(_beacon._FOREIGN_KEPT + 5):
        assert not ask(one, query, (f"10.0.0.{number}", 4000))
    assert len(one.foreign) == _beacon._FOREIGN_KEPT
