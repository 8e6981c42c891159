"""What the options of the network and of security do in every command, as its peers see it.

The commands run in this process: their peer is a scheduler in a thread, or a launcher in place of the command's own.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

import discoro_trio as discoro
from discoro_trio import launch
from discoro_trio._cli import _doctor, _monitor, run_discoro
from discoro_trio._cluster import LaunchedNode, Launcher, SchedulerAccess, find_scheduler, open_scheduler
from discoro_trio._link import EndpointOptions, current_endpoint, open_with
from discoro_trio._link.tls import _tls
from tests._ports import free_udp_port
from tests.cli.option_table import commands_with
from tests.cli.programs import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from discoro_trio._link import Endpoint, Link

PLACE = "PLACE"
"""In the arguments of a command: where the scheduler is."""
ASKING = {
    "discoro status": ("status", PLACE),
    "discoro stacks": ("stacks", PLACE),
    "discoro cancel": ("cancel", "none", "--scheduler", PLACE),
    "discoro drain": ("drain", "none", "--scheduler", PLACE),
    "discoro top": ("top", "--once", PLACE),
    "discoro monitor": ("monitor", PLACE),
    "discoro doctor": ("doctor", "--peer", PLACE),
    "discoro launch local": ("launch", "local", "--scheduler", PLACE),
}
"""The commands that connect to a scheduler."""
LAUNCHING = {
    "discoro launch local": ("launch", "local"),
    "discoro launch ssh": ("launch", "ssh", "host"),
    "discoro launch slurm": ("launch", "slurm"),
    "discoro launch pbs": ("launch", "pbs"),
    "discoro launch lsf": ("launch", "lsf"),
    "discoro launch sge": ("launch", "sge"),
    "discoro launch kubernetes": ("launch", "kubernetes", "--image", "image"),
}
"""The commands that run a scheduler for the nodes that they start."""
LAUNCHERS = ("Local", "Ssh", "Slurm", "Pbs", "Lsf", "Sge", "Kubernetes")
PORT = 20001
"""Below the ports that the system gives to others; each test has an address of its own."""

each_asking = pytest.mark.parametrize("command", ASKING)
each_launching = pytest.mark.parametrize("command", LAUNCHING)


def own_address(command: str) -> str:
    """Return an address of this machine that no other test uses."""
    number = [*ASKING, *LAUNCHING].index(command)
    return f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.{number + 2}"


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("DISCORO_IP_ADDR", "127.0.0.1")
    monkeypatch.setattr(_doctor, "_LOOK_SECONDS", 0.5)

    def end(*_arguments: object) -> None:
        raise discoro.DiscoroError

    monkeypatch.setattr(_monitor, "open_monitor", end)  # the pages are served until the program ends


def run(command: tuple[str, ...], *options: str) -> tuple[int, str]:
    """Run a command until it ends; return its status, and what it ended with as a text."""
    with pytest.raises(SystemExit) as ended:
        run_discoro([*command, *options])
    assert isinstance(ended.value.code, int)
    return ended.value.code, str(ended.value)


class Peers(list[Any]):
    """The identities of the processes that were connected to a scheduler.

    Attributes:
        place: Where the scheduler is.
    """

    place = ""

    def add(self, link: Link, own: Endpoint) -> None:
        """Note the other end of a link; the scheduler also has one to itself."""
        if link.peer.process_id != own.id:
            self.append(link.peer)


@contextmanager
def scheduler_in_a_thread(**options: Any) -> Iterator[Peers]:
    """Run a shared scheduler, and note which processes connect to it."""
    peers, ready = Peers(), threading.Event()
    over: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        with trio.CancelScope() as scope:
            block = open_scheduler(shared=True, settle=False, ip_addr="127.0.0.1", secret=SECRET, **options)
            async with block as scheduler:
                own = current_endpoint()
                own.services.links_lost.append(lambda link: peers.add(link, own))
                peers.place = str(scheduler.location)
                over.append((trio.lowlevel.current_trio_token(), scope))
                ready.set()
                await trio.sleep_forever()

    def serve_in_thread() -> None:
        try:
            trio.run(serve)
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=serve_in_thread)
    thread.start()
    ready.wait()
    try:
        if not failed:
            yield peers
    finally:
        for token, scope in over:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel)
        thread.join()
    for error in failed:
        raise error


def placed(command: str, place: str | None) -> tuple[str, ...]:
    """Return a command with the place of the scheduler, or without any."""
    words = list(ASKING[command])
    if place is not None:
        return tuple(place if word == PLACE else word for word in words)
    if command == "discoro launch local":  # without an option it runs its own scheduler
        return (*words[:-1], "127.0.0.1")
    at = words.index(PLACE)
    return tuple(words[: at - 1] if words[at - 1] in {"--scheduler", "--peer"} else words[:at])


def secret_file(folder: Path) -> str:
    file = folder / "secret"
    file.touch(mode=0o600)
    file.write_text(SECRET, encoding="ascii")
    return str(file)


@each_asking
@pytest.mark.option("ASKING --ip_addr", "ASKING --tcp_ports", "ASKING --name", "ASKING --secret_file")
@pytest.mark.option("discoro doctor --peer")
def test_a_scheduler_knows_a_command_by_the_address_port_and_name_that_it_was_given(
    command: str, tmp_path: Path, watching: Watching
) -> None:
    addr = own_address(command)
    options = (
        "--ip_addr",
        addr,
        "--tcp_ports",
        str(PORT),
        "--name",
        "somebody",
        "--secret_file",
        secret_file(tmp_path),
    )
    with scheduler_in_a_thread(discover=False) as peers:
        run(placed(command, peers.place), *options)
    assert {(peer.name, str(peer.location)) for peer in peers} == {("somebody", f"{addr}:{PORT}")}


@each_asking
@pytest.mark.option("ASKING --ext_ip_addr", "ASKING --secret", "ASKING --udp_port")
def test_a_scheduler_is_found_at_the_udp_port_with_the_secret_and_is_told_the_outer_address(
    command: str, watching: Watching
) -> None:
    port = free_udp_port()
    options = ("--ext_ip_addr", "203.0.113.7", "--secret", SECRET, "--udp_port", str(port))
    with scheduler_in_a_thread(udp_port=port) as peers:
        for _ in range(20):  # on a busy machine the doctor does not wait long enough
            if not peers:
                run(placed(command, None), *options)
    assert {peer.location.addr for peer in peers} == {"203.0.113.7"}


@each_asking
@pytest.mark.option("ASKING --no_discover")
def test_without_discovery_a_command_needs_the_place_and_with_it_uses_none(
    command: str, capsys: pytest.CaptureFixture[str], watching: Watching
) -> None:
    port = free_udp_port()
    options = ("--no_discover", "--secret", SECRET, "--udp_port", str(port))
    with scheduler_in_a_thread(udp_port=port) as peers:
        status, _ = run(placed(command, None), *options)
        if command == "discoro doctor":
            shown = capsys.readouterr().out
            assert "can be reached" not in shown
            assert "has answered" not in shown
        else:
            assert status == 2
            assert "--no_discover: without discovery, pass" in capsys.readouterr().err
        assert not peers
        run(placed(command, peers.place), *options)
    assert len({peer.process_id for peer in peers}) == 1


class Certificates:
    """Two authorities, and for each a certificate whose key is in a separate file."""

    def __init__(self, folder: Path) -> None:
        self.cafiles, self.pairs = [], []
        for number in range(2):
            authority = trustme.CA()
            made = authority.issue_cert("127.0.0.1")
            paths = [folder / f"{name}{number}.pem" for name in ("ca", "certificate", "key")]
            authority.cert_pem.write_to_path(str(paths[0]))
            made.cert_chain_pems[0].write_to_path(str(paths[1]))
            made.private_key_pem.write_to_path(str(paths[2]))
            self.cafiles.append(str(paths[0]))
            self.pairs.append({"certfile": str(paths[1]), "keyfile": str(paths[2])})


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encrypt connections of this machine too, as those that leave it are."""
    monkeypatch.setattr(_tls, "is_local", lambda _stream: False)


def as_options(files: dict[str, str]) -> list[str]:
    return [word for name, path in files.items() for word in (f"--{name}", path)]


@each_asking
@pytest.mark.usefixtures("encrypted")
@pytest.mark.option("ASKING --certfile", "ASKING --keyfile", "ASKING --cafile")
def test_a_command_shows_its_certificate_and_accepts_those_of_the_authority_only(
    command: str, certificates: Certificates, watching: Watching
) -> None:
    known, other = certificates.cafiles
    with scheduler_in_a_thread(discover=False, cafile=known, **certificates.pairs[0]) as peers:
        words = (*placed(command, peers.place), "--secret", SECRET, "--no_discover")
        for refused in ([], ["--cafile", known], as_options(certificates.pairs[1])):
            run(words, *refused)
            assert not peers
        run(words, *as_options(certificates.pairs[0]), "--cafile", other)
        assert not peers
        run(words, *as_options(certificates.pairs[0]), "--cafile", known)
    assert peers


# --- schedulers of the commands that launch nodes


class Watching(Launcher):
    """A launcher whose only node ends at once; it looks at the scheduler as a node does."""

    def __init__(self) -> None:
        self.access = SchedulerAccess(location=discoro.Location("", 0), secret="")
        self.options: EndpointOptions | None = None
        self.peer = ""
        self.found: list[str] = []
        self.seek_at: int | None = None
        self.hidden = False
        self.count: int | None = None

    def __call__(self, *_arguments: object, **_options: object) -> Watching:
        """Stand in for the class of a launcher."""
        return self

    @property
    def nodes(self) -> tuple[LaunchedNode, ...]:
        return (LaunchedNode(name="node", state="ended"),)

    async def until_changed(self) -> None:
        await trio.sleep_forever()

    async def take_back(self, name: str) -> None:
        raise NotImplementedError

    def open(self, access: SchedulerAccess, *, count: int | None = None) -> AbstractAsyncContextManager[None]:
        self.count = count
        return self._open(access)

    @asynccontextmanager
    async def _open(self, access: SchedulerAccess) -> AsyncIterator[None]:
        self.access = access
        if self.count is not None:
            raise discoro.DiscoroError  # ends a command whose number of nodes may change
        logging.getLogger("discoro_trio.launch").info("a line of a node")
        if self.seek_at is not None:
            async with open_with(EndpointOptions(secret=SECRET, udp_port=self.seek_at)) as endpoint:
                with suppress(discoro.SchedulerNotFound):
                    self.found.append(str((await find_scheduler(endpoint, 0.5 if self.hidden else 30)).peer.location))
        if self.options is not None:
            async with open_with(self.options) as endpoint:
                with suppress(discoro.DiscoroError):
                    link = await endpoint.link_at(discoro.Location("127.0.0.1", access.location.port))
                    self.peer = link.peer.name
        yield


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    made = Watching()
    for name in LAUNCHERS:
        monkeypatch.setattr(launch, name, made)
    yield made
    logging.getLogger("discoro_trio.launch").setLevel(logging.NOTSET)  # of a command that has ended


def test_every_command_has_a_row_here() -> None:
    for option in ("--ip_addr", "--no_discover", "--cafile"):
        assert set(commands_with(option)) == {*ASKING, *LAUNCHING}


@each_launching
@pytest.mark.option("LAUNCHING --ip_addr", "LAUNCHING --tcp_ports", "LAUNCHING --secret")
def test_nodes_are_told_the_address_port_and_secret_of_the_scheduler(command: str, watching: Watching) -> None:
    addr = own_address(command)
    options = ("--ip_addr", addr, "--tcp_ports", str(PORT), "--secret", SECRET, "--no_discover")
    run(LAUNCHING[command], *options)
    assert (str(watching.access.location), watching.access.secret) == (f"{addr}:{PORT}", SECRET)


@each_launching
@pytest.mark.option("LAUNCHING --ext_ip_addr", "LAUNCHING --secret_file", "LAUNCHING --name")
def test_nodes_are_told_the_outer_address_and_find_the_scheduler_by_its_name(
    command: str, watching: Watching, tmp_path: Path
) -> None:
    options = ("--ext_ip_addr", "203.0.113.7", "--name", "somebody", "--secret_file", secret_file(tmp_path))
    watching.options = EndpointOptions(secret=SECRET)
    run(LAUNCHING[command], *options, "--no_discover")
    assert (watching.access.location.addr, watching.access.secret) == ("203.0.113.7", SECRET)
    assert watching.peer == "somebody"


@each_launching
@pytest.mark.option("LAUNCHING --udp_port", "LAUNCHING --no_discover")
@pytest.mark.parametrize("hidden", [False, True])
def test_the_scheduler_of_a_launcher_is_found_at_its_udp_port_unless_it_hides(
    command: str, watching: Watching, *, hidden: bool
) -> None:
    watching.seek_at, watching.hidden = free_udp_port(), hidden
    options = ("--udp_port", str(watching.seek_at), "--secret", SECRET)
    run(LAUNCHING[command], *options, *(["--no_discover"] if hidden else []))
    assert watching.found == ([] if hidden else [str(watching.access.location)])


@each_launching
@pytest.mark.usefixtures("encrypted")
@pytest.mark.option("LAUNCHING --certfile", "LAUNCHING --keyfile", "LAUNCHING --cafile")
def test_the_scheduler_of_a_launcher_shows_its_certificate_and_accepts_those_of_the_authority_only(
    command: str, watching: Watching, certificates: Certificates
) -> None:
    words = (*LAUNCHING[command], "--secret", SECRET, "--no_discover", "--name", "somebody")
    known, other = certificates.cafiles
    own, others = certificates.pairs
    for given, peer, linked in (
        ([], {"cafile": known, **own}, False),
        (as_options(certificates.pairs[0]), {"cafile": other, **own}, False),
        (as_options(certificates.pairs[0]), {"cafile": known, **own}, True),
        (["--cafile", known], others, False),
        (["--cafile", known], own, True),
    ):
        options: dict[str, Any] = {"secret": SECRET, **peer}
        watching.options, watching.peer = EndpointOptions(**options), ""
        run(words, *given)
        assert watching.peer == ("somebody" if linked else "")


@each_launching
@pytest.mark.option("LAUNCHING --adaptive")
def test_a_launcher_begins_with_the_least_number_of_nodes(command: str, watching: Watching) -> None:
    run(LAUNCHING[command], "--secret", SECRET, "--no_discover", "--adaptive", "2:3")
    assert watching.count == 2


@each_launching
@pytest.mark.option("LAUNCHING --debug")
@pytest.mark.parametrize("debug", [False, True])
def test_what_nodes_write_is_shown_in_detail_only(
    command: str, watching: Watching, capsys: pytest.CaptureFixture[str], *, debug: bool
) -> None:
    run(LAUNCHING[command], "--secret", SECRET, "--no_discover", *(["--debug"] if debug else []))
    assert ("a line of a node" in capsys.readouterr().err) == debug


@pytest.mark.option("discoro launch local --scheduler", "discoro launch ssh --scheduler")
@pytest.mark.option("discoro launch slurm --scheduler", "discoro launch pbs --scheduler")
@pytest.mark.option("discoro launch lsf --scheduler", "discoro launch sge --scheduler")
@pytest.mark.parametrize("command", [name for name in LAUNCHING if name != "discoro launch kubernetes"])
def test_nodes_join_the_scheduler_that_is_named(command: str, watching: Watching) -> None:
    with scheduler_in_a_thread(discover=False) as peers:
        run(LAUNCHING[command], "--secret", SECRET, "--no_discover", "--scheduler", peers.place)
    assert str(watching.access.location) == peers.place
