"""Who may look and who may act."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import Headers

from discoro_trio._monitor._guard import GUESSES_AT_ONCE, MOST_GUESSERS, Guard, Guesses, is_loopback, make_guard

TOKEN = "a-token-for-tests"
HOST = "127.0.0.1:8181"


def guard(*, host: str = "127.0.0.1", open_to_all: bool = True, read_only: bool = False) -> Guard:
    return make_guard(host=host, token=TOKEN, scheme="http", read_only=read_only, open_to_all=open_to_all)


@pytest.mark.fault("F25")
@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("127.0.0.1:8181", True),
        ("localhost:8181", True),
        ("LOCALHOST", True),
        ("[::1]:8181", True),
        ("evil.example:8181", False),
        ("127.0.0.1.evil.example", False),
        ("10.0.0.1:8181", False),
        ("", False),
        (None, False),
        ("user@127.0.0.1", False),
        ("127.0.0.1/x", False),
        ("127.0.0.1:99999999", False),
        ("[::1", False),
    ],
)
def test_on_loopback_only_loopbacks_names_are_answered(host: str | None, fine: bool) -> None:  # noqa: FBT001 - a column of the table
    assert (guard().check_host(host) is None) is fine


def test_elsewhere_any_address_is_answered_but_no_foreign_name() -> None:
    open_guard = guard(host="", open_to_all=False)
    assert open_guard.check_host("192.168.1.7:8181") is None
    assert open_guard.check_host("[2001:db8::1]:8181") is None
    assert open_guard.check_host("evil.example:8181") is not None


@pytest.mark.spec("B14")
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1:8181", "http://127.0.0.1:9999", "null", ""]
)
def test_another_origin_is_refused(origin: str) -> None:
    refusal = guard().check_origin(Headers({"Origin": origin}), HOST)
    assert refusal is not None
    assert refusal.status == 403


def test_the_own_origin_and_programs_without_one_pass() -> None:
    assert guard().check_origin(Headers({"Origin": "http://127.0.0.1:8181"}), HOST) is None
    assert guard().check_origin(Headers(), HOST) is None
    assert guard().check_origin(Headers({"Sec-Fetch-Site": "cross-site"}), HOST) is not None


@pytest.mark.spec("B14")
def test_looking_is_free_on_loopback_only_and_acting_nowhere() -> None:
    assert guard().may_look(Headers(), None)
    closed = guard(host="", open_to_all=False)
    assert not closed.may_look(Headers(), None)
    assert closed.may_look(Headers({"Authorization": f"Bearer {TOKEN}"}), None)
    assert closed.may_look(Headers(), closed.session)
    refusal = guard().check_action(Headers({"Origin": "http://127.0.0.1:8181"}), None, HOST)
    assert refusal is not None
    assert refusal.status == 401


@pytest.mark.spec("B14")
def test_actions_need_the_token_and_the_own_origin() -> None:
    own = guard()
    origin = Headers({"Origin": "http://127.0.0.1:8181"})
    assert own.check_action(origin, own.session, HOST) is None
    assert own.check_action(Headers({"Authorization": f"Bearer {TOKEN}"}), None, HOST) is None
    for headers, cookie in (
        (Headers(), own.session),
        (Headers({"Origin": "http://evil.example"}), own.session),
        (origin, "wrong"),
        (origin, TOKEN),
        (Headers({"Authorization": "Bearer wrong"}), None),
        (Headers({"Authorization": f"Basic {TOKEN}"}), None),
    ):
        assert own.check_action(headers, cookie, HOST) is not None
    assert guard(read_only=True).check_action(origin, own.session, HOST) is not None


def test_odd_characters_in_a_token_are_only_wrong() -> None:
    assert not guard().is_token("\ud800é")


@pytest.mark.spec("S81")
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.9.9.9", True),
        ("", False),
        ("10.0.0.1", False),
        ("example", False),
    ],
)
def test_loopback_is_known(host: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_loopback(host) is expected


def test_an_address_has_so_many_wrong_tokens_in_a_row_and_then_one_a_second() -> None:
    guesses = Guesses()
    for _ in range(GUESSES_AT_ONCE):
        assert guesses.may_try(10.0, "192.0.2.1")
        guesses.wrong(10.0, "192.0.2.1")
    assert not guesses.may_try(10.5, "192.0.2.1")
    assert guesses.may_try(10.5, "192.0.2.2")
    assert guesses.may_try(11.0, "192.0.2.1")
    guesses.wrong(11.0, "192.0.2.1")
    assert not guesses.may_try(11.5, "192.0.2.1")
    assert guesses.may_try(30.0, "192.0.2.1")


def test_guessers_count_by_ipv6_network_and_only_so_many_are_remembered() -> None:
    guesses = Guesses()
    for number in range(GUESSES_AT_ONCE):
        guesses.wrong(1.0, f"2001:db8::{number:x}")
    assert not guesses.may_try(1.0, "2001:db8::ffff")
    for number in range(MOST_GUESSERS + 10):
        guesses.wrong(2.0, f"10.{number >> 8}.{number & 255}.1")
    assert len(guesses) == MOST_GUESSERS
