"""Send one request to a scheduler, for the commands that show its reply."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .._cluster import SILENT_STRANGERS, find_scheduler
from .._config import config
from .._errors import PeerDisconnected, SchedulerNotFound
from .._link import EndpointOptions, answered, open_with, resolve_peers
from .._values import Location
from .._wire import Control
from ._common import endpoint_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._link import Endpoint, Link

M = TypeVar("M", bound=Control)


async def ask_scheduler(
    scheduler: str | None,
    options: Mapping[str, Any],
    question: Control,
    kind: type[M],
    *,
    timeout: float | None = -1.0,  # noqa: ASYNC109 - as for `Link.request`
) -> M:
    """Connect to a scheduler, send a request and return the reply.

    Args:
        scheduler: Its `address:port`, or a host; None for the one on this network.
        options: The options of the command.
        question: The request.
        kind: The type that the reply must have.
        timeout: Seconds for the reply; negative for `config.MsgTimeout`, None for any.

    Raises:
        SchedulerNotFound: No scheduler replied.
        OptionError: The host does not exist.
        click.UsageError: Discovery would be needed, and is switched off.
    """
    check_place(scheduler, options)
    await resolve_peers("scheduler", [] if scheduler is None else [scheduler])
    async with open_with(EndpointOptions(**{"ip_addr": "", **endpoint_options(options)})) as endpoint:
        try:
            link = await link_to_scheduler(endpoint, scheduler)
        except PeerDisconnected as error:
            raise SchedulerNotFound(str(error)) from error
        return answered(await link.request(question, timeout=timeout), kind)


async def link_to_scheduler(endpoint: Endpoint, scheduler: str | None) -> Link:
    """Return a link to a scheduler.

    Args:
        endpoint: This process's endpoint.
        scheduler: Its `address:port`, or a host; None for the one on this network.

    Raises:
        SchedulerNotFound: None was found.
        PeerDisconnected: It does not answer.
    """
    with suppress(ValueError):  # a host without a port: discovery finds the port
        if scheduler:
            return await endpoint.link_at(Location.parse(scheduler))
    with not_found(scheduler):
        return await find_scheduler(endpoint, config.MsgTimeout, host=scheduler)


def check_place(scheduler: str | None, options: Mapping[str, Any]) -> None:
    """Check that a scheduler is reached without discovery if that is switched off.

    Args:
        scheduler: Its `address:port`, or a host; None for the one on this network.
        options: The options of the command.

    Raises:
        click.UsageError: Only discovery could find it.
    """
    if not options["no_discover"]:
        return
    try:
        Location.parse(scheduler or "")
    except ValueError as error:
        message = "--no_discover: without discovery, pass the scheduler's address as HOST:PORT"
        raise click.UsageError(message) from error


@contextmanager
def not_found(scheduler: str | None) -> Iterator[None]:
    """Let the error about a scheduler that does not answer say what the user of a command can do.

    Args:
        scheduler: Its `address:port`, or a host, as given; None for the one on this network.
    """
    try:
        yield
    except SchedulerNotFound as error:
        where = f"at {scheduler}" if scheduler else "on this network"
        _, begin, rest = str(error).partition(SILENT_STRANGERS)
        about_secret = f". {begin}{rest}" if begin else ""
        message = (
            f"no scheduler answered {where} within {config.MsgTimeout:g} s; start one with `discoro`, pass its "
            f"address as HOST:PORT, or see `discoro doctor`{about_secret}"
        )
        raise SchedulerNotFound(message) from error
