from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from discoro_trio._errors import AuthenticationError
from discoro_trio._link._option_error import OptionError
from discoro_trio._link.secret._secret_file import (
    SecretFile,
    default_path,
    drop,
    load_secret,
    private_secret,
    show,
    stage,
    switch,
)
from discoro_trio._values import Location
from discoro_trio._wire import Binding, ClientHandshake, Identity, ServerHandshake, key_of_secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from discoro_trio._wire import Credential

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the real secret of whoever runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISCORO_SECRET", raising=False)
    return tmp_path / "config"


def put_secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.spec("B07")
def test_the_secret_is_made_at_first_use_for_its_owner_alone(config_folder: Path) -> None:
    first, second = load_secret(), load_secret()
    assert first == second
    assert first.realm == b""
    assert len(first.key) == 32
    assert default_path().parent.parent == config_folder
    assert mode_of(default_path()) == 0o600
    assert bytes.fromhex(default_path().read_text(encoding="utf-8")) == first.key


def test_a_generous_umask_does_not_open_the_secret() -> None:
    before = os.umask(0)
    try:
        load_secret()
    finally:
        os.umask(before)
    assert mode_of(default_path()) == 0o600
    assert mode_of(default_path().parent) == 0o700


def test_many_that_use_it_first_at_once_get_the_same() -> None:
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(load_secret().key)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert [path.name for path in default_path().parent.iterdir()] == ["secret"]


@pytest.mark.spec("S26")
def test_an_argument_goes_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = load_secret().key
    monkeypatch.setenv("DISCORO_SECRET", "11" * 32)
    path = put_secret(tmp_path / "other", "22" * 32 + "\n")
    assert load_secret("33" * 32).key == b"\x33" * 32
    assert load_secret(secret_file=path).key == b"\x22" * 32
    assert load_secret().key == b"\x11" * 32
    monkeypatch.delenv("DISCORO_SECRET")
    assert load_secret().key == made


@pytest.mark.parametrize("secret", [KEY, KEY.hex(), KEY.hex().upper(), KEY.hex() + "\n"])
def test_a_key_can_be_given_as_bytes_or_hexadecimal_digits(secret: str | bytes) -> None:
    assert load_secret(secret).key == KEY


def test_any_other_text_is_a_passphrase(tmp_path: Path) -> None:
    path = put_secret(tmp_path / "secret", "open sesame\n")
    assert load_secret(secret_file=path).key == load_secret("open sesame").key == key_of_secret("open sesame")


@pytest.mark.parametrize(
    ("secret", "text"),
    [("", "secret: the secret is empty"), (" \n", "secret: the secret is empty"), (b"short", "secret: .* 32 of them")],
)
def test_an_unfit_secret_is_refused_by_the_name_of_its_option(secret: str | bytes, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        load_secret(secret)


def test_an_empty_variable_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORO_SECRET", "")
    with pytest.raises(OptionError, match="DISCORO_SECRET: the secret is empty"):
        load_secret()


def test_two_secrets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="not both"):
        load_secret("x", tmp_path / "secret")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = put_secret(tmp_path / "secret", KEY.hex(), mode)
    with pytest.raises(OptionError, match=rf"secret_file: .*/secret cannot be used: other users .*mode {mode:04o}"):
        load_secret(secret_file=path)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_secret(tmp_path / "secret", KEY.hex())
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(OptionError, match="it belongs to user"):
        load_secret(secret_file=path)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(put_secret(tmp_path / "secret", KEY.hex()))
    with pytest.raises(OptionError, match="symbolic link"):
        load_secret(secret_file=tmp_path / "link")


def test_a_dangling_link_in_the_config_folder_is_not_followed(tmp_path: Path) -> None:
    default_path().parent.mkdir(parents=True)
    default_path().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OptionError, match="symbolic link"):
        load_secret()
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(OptionError, match="not a regular file"):
        load_secret(secret_file=tmp_path / "pipe")
    with pytest.raises(OptionError, match="not a regular file"):
        load_secret(secret_file=tmp_path)


def test_a_file_that_does_not_exist_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="nowhere cannot be used: No such file"):
        load_secret(secret_file=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("text", ["", "a\nb\n", "a\nnext b\nold c\n", "x" * 5000])
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(OptionError, match="cannot be used"):
        load_secret(secret_file=put_secret(tmp_path / "secret", text))


def test_a_file_that_is_no_text_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = put_secret(tmp_path / "secret", "")
    path.write_bytes(b"\xffhidden")
    with pytest.raises(OptionError, match="not text") as caught:
        load_secret(secret_file=path)
    assert caught.value.__cause__ is None
    assert "hidden" not in str(caught.value)


def test_a_config_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OptionError, match="no secret can be made there: Read-only file system; give secret"):
        load_secret()
    assert not list(default_path().parent.iterdir())


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    held = SecretFile(tmp_path, "first", next="second", old="third")
    assert not {"first", "second", "third"} & set(repr(held).split("'"))
    assert KEY.hex() not in repr(load_secret(KEY))


def test_the_secret_of_a_cluster_in_one_program_is_in_no_file(config_folder: Path) -> None:
    assert private_secret() != private_secret()
    assert not config_folder.exists()


def meet(client: Credential, server: Credential) -> None:
    """Let two processes shake hands."""
    at_client, at_server = (
        Identity(secrets.token_bytes(16), (3, 11), name, Location("127.0.0.1", 1)) for name in ("client", "server")
    )
    one = ClientHandshake(at_client, client, Binding())
    two = ServerHandshake(at_server, {b"": server}.get, Binding())
    message: bytes | None = one.start()
    while message is not None:
        answer = two.received(message)
        assert answer is not None
        message = one.received(answer)
    assert one.done
    assert two.done


def test_a_cluster_changes_its_secret_one_process_at_a_time(tmp_path: Path) -> None:
    here = put_secret(tmp_path / "here", "11" * 32)
    there = put_secret(tmp_path / "there", "11" * 32)
    steps: list[Callable[[Path], SecretFile]] = [partial(stage, "22" * 32), switch, drop]
    for step in steps:
        before = load_secret(secret_file=there)
        step(here)
        after = load_secret(secret_file=here)
        meet(after, before)
        meet(before, after)
        step(there)
    assert load_secret(secret_file=here).key == load_secret(secret_file=there).key == b"\x22" * 32
    with pytest.raises(AuthenticationError):
        meet(load_secret("11" * 32), load_secret(secret_file=here))


def test_a_staged_secret_is_accepted_and_not_used(tmp_path: Path) -> None:
    path = put_secret(tmp_path / "secret", KEY.hex())
    held = stage(path=path)
    assert held == show(path)
    assert held.next is not None
    credential = load_secret(secret_file=path)
    assert (credential.key, credential.accepted) == (KEY, (bytes.fromhex(held.next),))
    assert len(set(held.fingerprints())) == 2
    assert mode_of(path) == 0o600


def test_after_the_switch_the_old_secret_is_still_accepted_until_it_is_dropped(tmp_path: Path) -> None:
    path = put_secret(tmp_path / "secret", "open sesame")
    stage(KEY.hex(), path)
    switch(path)
    credential = load_secret(secret_file=path)
    assert (credential.key, credential.accepted) == (KEY, (key_of_secret("open sesame"),))
    drop(path)
    assert path.read_text(encoding="utf-8") == KEY.hex() + "\n"


def test_dropping_before_the_switch_gives_the_change_up(tmp_path: Path) -> None:
    path = put_secret(tmp_path / "secret", KEY.hex())
    stage(path=path)
    assert drop(path) == SecretFile(path, KEY.hex())


def test_steps_out_of_order_are_refused(tmp_path: Path) -> None:
    path = put_secret(tmp_path / "secret", KEY.hex())
    with pytest.raises(OptionError, match="no further secret is staged"):
        switch(path)
    with pytest.raises(OptionError, match="holds no further secret"):
        drop(path)
    stage("one", path)
    stage("one", path)
    with pytest.raises(OptionError, match="in progress"):
        stage("two", path)
    switch(path)
    with pytest.raises(OptionError, match="no further secret is staged"):
        switch(path)
    with pytest.raises(OptionError, match="in progress"):
        stage("two", path)


@pytest.mark.parametrize("new", ["", "two\nlines"])
def test_only_one_line_can_be_staged(tmp_path: Path, new: str) -> None:
    with pytest.raises(OptionError, match="one line"):
        stage(new, put_secret(tmp_path / "secret", KEY.hex()))


def test_a_failed_change_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = put_secret(tmp_path / "secret", KEY.hex())
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OptionError, match="cannot be written: No space left"):
        stage(path=path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text(encoding="utf-8") == KEY.hex()
