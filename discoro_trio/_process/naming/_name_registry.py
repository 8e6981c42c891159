"""The name registry: registers and looks up names at the processes that keep them.

The client of a computation keeps the computation's names: servers register and look up names over their link to it.
The scheduler keeps public names, if the process knows a scheduler or finds one on the network; until then the process
that registers a public name keeps it. Each process also keeps the names of its own objects, for peers that ask it by
its Location. The tables are `NameTable`s.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import trio

from ..._config import config
from ..._errors import DiscoroError, PeerDisconnected
from ..._link import ANY, Done, Trust, answered
from ..._records import Record
from ..._wire import Control
from ._addresses import Address, Realm
from ._name_table import EVERYBODY, Key, NameTable
from ._scheduler_search import SchedulerSearch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    from ..._link import Endpoint, Link
    from ..._values import Location
    from .._coro import Coro
    from .._process import Process

CORO = "coroutine"
"""The kind of name that coroutines have."""

MOST_NAMES = 65_536
"""The number of names that are kept for one other process."""

LONGEST_NAME = 1_024
"""The most characters of a name."""

_NOT_FOUND = (
    "the %s %r is not found yet: it is not registered in this program, and there is no scheduler that keeps public "
    "names; start one with `discoro`, or give the program that has it as location= (this one listens at %s)"
)
_CLIENT_LOST = "the client of this computation, which keeps its names, cannot be reached"
_SEARCHES_IN_SILENCE = 2
"""The number of searches for a scheduler after which a program logs that it waits for a name."""


logger = logging.getLogger(__name__)


class Register(Control, frozen=True):
    """Register a name for an object; answered by `Done`."""

    kind: Annotated[str, msgspec.Meta(max_length=64)]
    name: Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
    address: Address
    public: bool
    scope: Realm
    """The computation of the registering process."""


class Unregister(Control, frozen=True):
    """Free a name."""

    kind: str
    name: str
    address: Address
    public: bool


class Locate(Control, frozen=True):
    """Look up a name. Answered by `Located` once the name is registered."""

    kind: str
    name: str
    scope: bytes
    """The computation of the requesting process."""


class Located(Control, frozen=True):
    """The object that has the name."""

    address: Address


class Entry(Record, frozen=True):
    """One name of one object."""

    key: Key
    address: Address
    public: bool

    def register(self, scope: bytes) -> Register:
        """Return the request to register it."""
        return Register(*self.key, self.address, self.public, scope)

    def unregister(self) -> Unregister:
        """Return the notice that frees it."""
        return Unregister(*self.key, self.address, self.public)


class PublicHere(set[Entry]):
    """The public names in one process. Without any, jobs of other computations cannot connect to it."""

    def names(self, kind: str, serial: int) -> bool:
        """Return whether a coroutine, a channel or an RCI of the process has one."""
        return any(entry.key[0] == kind and entry.address.serial == serial for entry in self)


class Registration:
    """A name that is being registered at another process. Await it to be sure that the name is registered.

    Awaiting it raises the error if the registration fails; if it is never awaited, the error is logged.
    """

    def __init__(self) -> None:
        self._done = trio.Event()
        self._error: DiscoroError | None = None
        self._awaited = False
        self._freed = False
        self._free: Callable[[], None] | None = None

    def __await__(self) -> Generator[object, object, None]:
        """Wait until the name is registered.

        Raises:
            NameTaken: The name has another owner.
            PeerDisconnected: The process that keeps the name cannot be reached.
        """
        self._awaited = True
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self._done.is_set():
            await trio.lowlevel.checkpoint()
        await self._done.wait()
        if self._error is not None:
            raise self._error

    def succeeded(self, free: Callable[[], None]) -> None:
        """Note that the name is registered, and the function that frees it."""
        self._free = free
        self._done.set()
        if self._freed:
            free()

    def failed(self, error: DiscoroError) -> None:
        """Note that the registration failed."""
        self._error = error
        self._done.set()
        if not self._awaited:
            logger.error("a name was not registered: %s", error)

    def free(self) -> None:
        """Free the name, now or as soon as it is registered."""
        if self._freed:
            return
        self._freed = True
        if self._free is not None:
            self._free()


class NameRegistry:
    """The names that this process keeps, and access to the names that other processes keep.

    Attributes:
        client: In a server, the id of its computation's client, which keeps the names.
        keeps_public: Whether this process is a shared scheduler, which keeps public names and asks nobody for them.
        public_here: The public names of objects of this process.
    """

    def __init__(self, process: Process) -> None:
        self.client: bytes | None = None
        self.keeps_public: bool = False
        self._process = process
        self._inside = NameTable()
        self._public = NameTable()
        self._above: list[Callable[[], Link | None]] = []
        self._above_changed = trio.lowlevel.ParkingLot()
        self._elsewhere: dict[Entry, Link] = {}  # names of this process that another process keeps, and the link to it
        self.public_here: PublicHere = PublicHere()
        self._search = SchedulerSearch(process.endpoint, self._scheduler_found, self._is_wanted)
        self._guests: dict[Link, dict[Entry, bytes]] = {}
        process.endpoint.parts[NameRegistry] = self
        services = process.endpoint.services
        services.on_request(Register, self._asked_to_register, trust=ANY)
        services.on_notice(Unregister, self._told_to_free, trust=ANY)
        services.on_request(Locate, self._asked_to_locate, trust=ANY)
        services.links_lost.append(self._lost)

        def wake(_link: Link) -> None:
            self._above_changed.unpark_all()

        services.links_made.append(wake)

    @contextmanager
    def kept_at(self, scheduler: Callable[[], Link | None]) -> Iterator[None]:
        """Keep public names at a scheduler while the block lasts; its link may be lost and re-established."""
        self._above.append(scheduler)
        self._above_changed.unpark_all()
        try:
            yield
        finally:
            self._above.remove(scheduler)
            self._look_again()

    # --- for objects of this process

    def register_coro(self, coro: Coro[Any], name: str, *, public: bool) -> Registration:
        """Register a name for a coroutine of this process, until it ends."""
        local = self._process.locals.get(coro.serial) if coro.home == self._process.id else None
        if local is None:
            message = f"{coro} is not a running coroutine of this process; register it in its own process"
            raise RuntimeError(message)
        registration = self.register(Entry((CORO, name), Address.of(coro), public))
        local.at_end(registration.free)
        return registration

    def register(self, entry: Entry) -> Registration:
        """Register a name for an object of this process, at the process that keeps the name.

        Raises:
            ValueError: The name is too long.
            NameTaken: This process already knows another owner of the name.
            PeerDisconnected: The process that keeps the name cannot be reached.
        """
        if len(entry.key[1]) > LONGEST_NAME:
            message = f"name has {len(entry.key[1])} characters; it may have {LONGEST_NAME}"
            raise ValueError(message)
        link = self._kept_at(public=entry.public)
        directory = self._directory(entry)
        directory.add(EVERYBODY, entry.key, entry.address)
        if entry.public:
            self.public_here.add(entry)
        registration = Registration()
        if link is None:
            registration.succeeded(lambda: self._free(entry))
            if entry.public:
                self._look_for_scheduler()
        else:
            self._process.endpoint.nursery.start_soon(self._register_at, link, entry, registration)
        return registration

    async def _register_at(self, link: Link, entry: Entry, registration: Registration) -> None:
        try:
            await link.request(entry.register(self._process.realm))
        except DiscoroError as error:
            self._drop_here(entry)
            registration.failed(error)
        else:
            self._elsewhere[entry] = link
            registration.succeeded(lambda: self._free(entry))

    def _free(self, entry: Entry) -> None:
        self._drop_here(entry)
        self._elsewhere.pop(entry, None)
        with suppress(PeerDisconnected):
            link = self._kept_at(public=entry.public)
            if link is not None:
                link.notify(entry.unregister())

    def _look_for_scheduler(self) -> None:
        if self.client is None and not self._above and not self.keeps_public:
            self._search.start()

    def _look_again(self) -> None:
        """Find a scheduler again that has ended and has kept public names of this process."""
        gone = [entry for entry, link in self._elsewhere.items() if entry.public and link.lost]
        if self.client is not None or self._above or not gone:
            return  # in a computation, `rejoined` registers them again
        for entry in gone:
            del self._elsewhere[entry]
        self._search.start()

    def _is_wanted(self) -> bool:
        """Return whether a scheduler is to be found although no task waits for a name: it shall know names of here."""
        return not self._above and any(entry not in self._elsewhere for entry in self.public_here)

    def _scheduler_found(self, link: Link) -> None:
        self._above_changed.unpark_all()
        for entry in list(self.public_here):
            if entry not in self._elsewhere:
                self._elsewhere[entry] = link
                self._process.endpoint.nursery.start_soon(_register_again, link, entry)

    def rejoined(self) -> None:
        """Register public names again, at a scheduler that may not have them."""
        self._above_changed.unpark_all()
        link = self._scheduler_link()
        if link is None or self.client is not None:
            return
        known = {entry for entries in self._guests.values() for entry in entries} | self._elsewhere.keys()
        for entry in known:
            if entry.public:
                if entry in self._elsewhere:
                    self._elsewhere[entry] = link
                self._process.endpoint.nursery.start_soon(_register_again, link, entry)

    def _drop_here(self, entry: Entry) -> None:
        self.public_here.discard(entry)
        self._directory(entry).remove(EVERYBODY, entry.key, entry.address)

    async def locate(self, key: Key, location: Location | None) -> Address:
        """Wait until a name is registered: here, at the process that keeps it, or at a given location."""
        await trio.lowlevel.checkpoint()
        if location is None or location == self._process.endpoint.location:
            return await self._find(EVERYBODY, key, inside=True)
        link = await self._process.endpoint.link_at(location, self._process.realm)
        return await self._ask(link, key)

    # --- the processes that keep names

    def _directory(self, entry: Entry) -> NameTable:
        return self._public if entry.public else self._inside

    def _kept_at(self, *, public: bool) -> Link | None:
        """Return the link to the process that keeps names; None if this process keeps them."""
        if self.client is not None:
            return _client_link(self._process.endpoint, self.client)
        return self._scheduler_link() if public else None

    def _scheduler_link(self) -> Link | None:
        for scheduler in reversed(self._above):
            link = scheduler()
            if link is not None and not link.lost:
                return None if link.peer.process_id == self._process.id else link
        found = self._search.link
        return found if not self._above and found is not None and not found.lost else None

    async def _find(self, scope: bytes, key: Key, *, inside: bool) -> Address:
        here = [directory.find(scope, key) for directory in ((self._inside,) if inside else ()) + (self._public,)]
        found = next((address for address in here if address is not None), None)
        if found is not None:
            return found
        sources: list[Callable[[], Awaitable[Address]]] = [lambda: self._public.wait(EVERYBODY, key)]
        if inside:
            sources.append(lambda: self._inside.wait(scope, key))
        sources.append(lambda: self._find_above(key))
        return await _first(sources)

    async def _find_above(self, key: Key) -> Address:
        if self.keeps_public:
            await trio.sleep_forever()  # it becomes known here, or not at all
        if self.client is not None:
            try:
                return await self._ask(_client_link(self._process.endpoint, self.client), key)
            except PeerDisconnected as error:
                raise PeerDisconnected(_CLIENT_LOST) from error
        tries = 0
        while True:
            link = self._scheduler_link()
            if link is not None:
                try:
                    return await self._ask(link, key)
                except PeerDisconnected:
                    logger.info("the scheduler, which keeps public names, cannot be reached")
                    continue
            self._look_for_scheduler()
            tries += 1
            if tries == _SEARCHES_IN_SILENCE:
                # A program with a scheduler of its own keeps its names itself: others may simply not have begun yet.
                level = logging.INFO if self._above else logging.WARNING
                logger.log(level, _NOT_FOUND, key[0], key[1], self._process.endpoint.location)
            with trio.move_on_after(config.MsgTimeout):
                await self._above_changed.park()

    async def _ask(self, link: Link, key: Key) -> Address:
        reply = await link.request(Locate(*key, self._process.realm), timeout=None)
        located = answered(reply, Located)
        self._process.introductions.heard(located.address.realm, link)
        return located.address

    # --- requests of other processes

    async def _asked_to_register(self, link: Link, message: Register) -> Done:
        if len(self._guests.get(link, ())) >= MOST_NAMES:
            text = f"one process registers at most {MOST_NAMES} names"
            raise DiscoroError(text)
        entry = Entry((message.kind, message.name), message.address, message.public)
        if self._process.introductions.opened(link):
            text = "a process of another computation cannot register names here"
            raise DiscoroError(text)
        if link.trust in Trust.LEASE | Trust.CHILD and message.address.home != link.peer.process_id:
            text = f"{link.peer_name} registers {message.name!r} for an object of another process"
            raise DiscoroError(text)
        scope = EVERYBODY if entry.public else _scope(link, message.scope)
        if not entry.public and not scope:
            text = f"the name {message.name!r} is of another process's computation; register it with public=True"
            raise DiscoroError(text)
        above = self._scheduler_link() if entry.public else None
        if above is None:
            self._directory(entry).add(scope, entry.key, entry.address)
        else:
            await _register_above(above, entry)
        self._process.introductions.heard(entry.address.realm, link)
        if link.lost:
            self._drop(scope, entry)
        else:
            self._guests.setdefault(link, {})[entry] = scope
        return Done()

    def _told_to_free(self, link: Link, message: Unregister) -> None:
        entry = Entry((message.kind, message.name), message.address, message.public)
        scope = self._guests.get(link, {}).pop(entry, None)
        if scope is not None:
            self._drop(scope, entry)

    def _drop(self, scope: bytes, entry: Entry) -> None:
        self._directory(entry).remove(scope, entry.key, entry.address)
        above = self._scheduler_link() if entry.public else None
        if above is not None:
            above.notify(entry.unregister())

    def _lost(self, link: Link) -> None:
        for entry, scope in self._guests.pop(link, {}).items():
            self._drop(scope, entry)
        self._look_again()

    async def _asked_to_locate(self, link: Link, message: Locate) -> Located:
        if self._process.introductions.opened(link):  # its peer may look up public names only
            return Located(await self._public.wait(EVERYBODY, (message.kind, message.name)))
        inside = link.trust is not Trust.SECRET
        scope = _scope(link, message.scope)
        return Located(await self._find(scope, (message.kind, message.name), inside=inside))


def names_of(endpoint: Endpoint) -> NameRegistry:
    """Return the names of an endpoint's process."""
    names = endpoint.parts[NameRegistry]
    assert isinstance(names, NameRegistry)  # noqa: S101 - parts are kept by type
    return names


async def _register_again(link: Link, entry: Entry) -> None:
    try:
        await link.request(entry.register(EVERYBODY))
    except DiscoroError as error:
        logger.error("a name was not registered again at the scheduler: %s", error)  # noqa: TRY400 - the message is enough


def _client_link(endpoint: Endpoint, client: bytes) -> Link:
    link = endpoint.links.get(client)
    if link is None or link.lost:
        raise PeerDisconnected(_CLIENT_LOST)
    return link


async def _register_above(above: Link, entry: Entry) -> None:
    try:
        await above.request(entry.register(EVERYBODY))
    except trio.Cancelled:
        above.notify(entry.unregister())
        raise


def _scope(link: Link, said: bytes) -> bytes:
    """Return the computation of a peer: proved by its key, assigned to it, or, if it is `KIN`, as the peer states."""
    if link.trust in Trust.LEASE | Trust.CHILD:
        return link.realm
    return said if link.trust is Trust.KIN else EVERYBODY


async def _first(sources: list[Callable[[], Awaitable[Address]]]) -> Address:
    """Wait for the first answer, or for the first error."""
    found: list[Address] = []
    errors: list[DiscoroError] = []
    async with trio.open_nursery() as nursery:

        async def wait(source: Callable[[], Awaitable[Address]]) -> None:
            try:
                found.append(await source())
            except DiscoroError as error:
                errors.append(error)
            nursery.cancel_scope.cancel()

        for source in sources:
            nursery.start_soon(wait, source)
    if found:
        return found[0]
    raise errors[0]
