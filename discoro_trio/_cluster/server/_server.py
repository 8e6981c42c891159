"""The program of a server process: it runs the coroutines of one computation and then ends.

It is forked from the fork server with a socket to its node. It never has the cluster's secret: it accepts only links
under the key of its lease.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from ..._config import config
from ..._link import ANY, Done, Tls, Trust, serve_endpoint
from ..._process import Process, guard_forks, output, run_exit_handlers, shared_here
from ..._shipping import decode_package, holds_files, install_definitions, place_files, serve_child_processes
from ..._values import Location
from ..._wire import Credential, PeerIdentity
from .. import _messages as messages
from .._details import ServerDetails
from ..fork_server._os import set_process_name
from ..isolation._limits import enter_groups
from ..isolation._users import Become, become
from ..node._server_spec import ServerSpec
from ..node._set_up import COMPONENTS, NODE_SETUP, SERVER_SETUP, failed, run_set_up
from ..node._shared_values import SHARED
from ._reports import LAST_LINES, Reporter
from ._stack_dump import prepare_dump

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from ..._link import Endpoint, Link
    from ..._process import OutputLine


class ServerProgram:
    """The server that runs in this process."""

    def __init__(self, endpoint: Endpoint, process: Process, nursery: trio.Nursery, tail_fd: int) -> None:
        self._endpoint = endpoint
        self._process = process
        self._nursery = nursery
        self._tail_fd = tail_fd
        self.pulse_interval = config.MinPulseInterval
        self._output: output.Output | None = None
        self.last_report: Callable[[Sequence[OutputLine]], None] = lambda _lines: None
        """Sends the last report before the server ends."""
        self._scope = trio.CancelScope()
        self._idle = trio.Event()
        endpoint.keepalive.pulse_intervals.append(lambda _link: self.pulse_interval)
        services = endpoint.services
        ServerDetails(process, lambda: self._output)
        services.on_notice(messages.OpenShared, self._open_shared, trust=ANY)
        services.on_notice(messages.ForgetShared, self._drop_shared, trust=ANY)
        services.on_request(messages.AreYouThere, _say_so, trust=Trust.KIN)
        services.on_request(Become, become, trust=Trust.KIN)
        services.on_request(messages.Begin, self._begin, trust=Trust.KIN)
        services.on_request(messages.Finish, self._finish, trust=Trust.KIN)
        services.on_request(messages.CloseIfIdle, self._close_if_idle, trust=Trust.KIN)
        services.on_notice(messages.ServerEnded, self._server_ended, trust=ANY)

    async def run(self) -> None:
        """Hold the nursery of all coroutines until it is cancelled."""
        runner = self._process.runner
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    runner.nursery = nursery
                    await trio.sleep_forever()
        finally:
            runner.nursery = None
            self._idle.set()

    def _server_ended(self, link: Link, notice: messages.ServerEnded) -> None:
        if self._process.introductions.of_client(link):
            self._process.mail.process_ended(notice.server_id)

    async def _begin(self, _link: Link, begin: messages.Begin) -> Done | messages.SetUpFailed:
        self._process.files.folder = Path.cwd()  # the node may have moved it to the folder where it is kept
        self._endpoint.credentials[begin.computation] = Credential(begin.computation, begin.key)
        self._process.realm = begin.computation
        self._process.names.client = begin.client_id
        runner = self._process.runner
        runner.threads = runner.gate.limiter = trio.CapacityLimiter(begin.threads)
        runner.gate.most = begin.threads
        self.pulse_interval = begin.pulse_interval
        if begin.forward_output:
            self._output = output.Output(self._process, begin.client_id, self._tail_fd)
            self._nursery.start_soon(self._output.run, name="output")
        serve_child_processes()
        stage = COMPONENTS
        try:
            await self._install(begin)
            for stage, packed in ((NODE_SETUP, begin.node_setup), (SERVER_SETUP, begin.server_setup)):
                await run_set_up(self._process, packed, stage)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
            return failed(stage, error, where=self._endpoint.identity.name)
        self._process.runner.open = True
        return Done()

    async def _install(self, begin: messages.Begin) -> None:
        folder = Path(begin.folder)
        shared_here.folder = folder / SHARED
        if holds_files(folder):
            await trio.to_thread.run_sync(place_files, folder, Path.cwd())
        self._process.shipped = install_definitions(
            decode_package(begin.package), folder, place=str(self._endpoint.location)
        )

    def _open_shared(self, link: Link, opened: messages.OpenShared) -> None:
        """Unpickle a shared value, which also imports the packages of its classes.

        In this thread, as the definitions of functions: while one thread imports a package, another one that imports a
        part of it may break the import for good.
        """
        if self._process.introductions.of_client(link):
            with suppress(Exception):  # the first job that uses the value raises it
                shared_here.value(opened.share)

    def _drop_shared(self, link: Link, dropped: messages.ForgetShared) -> None:
        if self._process.introductions.of_client(link):
            shared_here.forget(dropped.share)

    async def _close_if_idle(self, _link: Link, _close: messages.CloseIfIdle) -> Done | messages.StillBusy:
        if self._process.runner.busy:
            return messages.StillBusy()
        self._process.runner.open = False
        self._process.runner.closing = True
        self._report_last()
        return Done()

    def _report_last(self) -> None:
        self.last_report([] if self._output is None else self._output.kept.after(0, LAST_LINES))

    async def _finish(self, link: Link, finish: messages.Finish) -> Done:
        runner = self._process.runner
        runner.open = False
        runner.end(finish.reason, logs_errors=finish.again)
        self._scope.cancel()
        await self._idle.wait()
        await runner.until_fetched()
        run_exit_handlers()  # here, as some must run in the main thread; the node waits for the grace period
        self._report_last()
        if self._output is not None:
            await self._output.finish()
        await self._endpoint.close(finish.reason, keep=link)  # pending frames go out before the node ends this
        return Done()


async def _say_so(_link: Link, _question: messages.AreYouThere) -> Done:
    return Done()


async def _serve(spec: ServerSpec, link_socket: socket.socket, tail_fd: int) -> None:
    for name, value in spec.settings.items():
        setattr(config, name, value)
    node = PeerIdentity(spec.node_id, spec.node_name, Location(spec.node_addr, spec.node_port), b"")
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(link_socket))
    tls = Tls(certfile=spec.certfile, keyfile=spec.keyfile, cafile=spec.cafile)
    async with serve_endpoint(
        bind=spec.bind,
        ports=spec.ports,
        ext_addr=spec.ext_addr,
        name=spec.name,
        process_id=spec.process_id,
        tls=tls,
    ) as here:
        _show_name(f"{spec.name} at {here.location}")
        process = Process(here)
        process.files.folder = Path.cwd()
        process.files.max_file_size = spec.max_file_size
        with process.entered():
            async with trio.open_nursery() as nursery:
                server = ServerProgram(here, process, nursery, tail_fd)
                nursery.start_soon(server.run)
                link = await here.adopt(stream, node)
                guard_forks(here)
                reporter = Reporter(process)
                server.last_report = partial(reporter.send, link)
                nursery.start_soon(reporter.run, link, name="reports")
                link.notify(messages.ServerUp(here.location.addr, here.location.port))
                await link.ended.wait()
                # The node is gone. Coroutines here are lost, not cancelled: none of their outcomes may be reported now.
                os._exit(1)


def _show_name(name: str) -> None:
    """Let `ps` and debuggers show which server this is."""
    threading.current_thread().name = name
    set_process_name("discoro-server", name)  # last: a newer Python names the process as its first thread


def main(spec: bytes, link: socket.socket, tail_fd: int) -> None:
    """Run a server until the node closes its end of the link. This does not return.

    Args:
        spec: A `ServerSpec`, as msgpack.
        link: The connection to the node.
        tail_fd: A descriptor for text that `ServerLost.stderr_tail` shows.
    """
    os.set_blocking(tail_fd, False)
    told = msgspec.msgpack.decode(spec, type=ServerSpec)
    prepare_dump(Path(told.stack_file))
    enter_groups(told.groups)
    told.limits.apply()
    trio.run(_serve, told, link, tail_fd)
