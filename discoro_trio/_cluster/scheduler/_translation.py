"""Translates messages into the scheduler's events, and its effects into messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._config import config
from ..._status import NodeAllocation, NodeInfo
from .. import _messages as messages
from .._allocations import Allocations
from .._facts import ComputationRequest, NodeFacts
from ._admin_requests import NodeRests
from ._effects import TellDiscarded, TellLeased, TellRests, TellTurn

if TYPE_CHECKING:
    from ..._link import Link
    from ..._wire import Control

_LONGEST_OWNER = 200
"""Characters."""


def submission(link: Link, message: messages.Submit, least: float) -> ComputationRequest:
    """Read a computation that a client submits; its pulse interval is limited to the bounds of this scheduler.

    Args:
        link: The link to the client.
        message: The client's message.
        least: The seconds between the heartbeats of nodes; a computation's interval is never shorter.
    """
    return ComputationRequest(
        message.computation,
        link.peer.process_id,
        message.name,
        Allocations(tuple(_allocation(wish) for wish in message.wishes)),
        message.zombie_period,
        min(max(message.pulse_interval, least), config.MaxPulseInterval),
        message.queue_entry,
        message.running,
        message.key,
        message.owner[:_LONGEST_OWNER],
    )


def info(facts: NodeFacts, pulse: messages.Pulse) -> NodeInfo:
    """Return the resources of a node, for status."""
    return NodeInfo(
        facts.addr,
        facts.name,
        facts.platform,
        pulse.cpus,
        pulse.cpu_percent,
        pulse.memory_total,
        pulse.memory_available,
        pulse.disk_total,
        pulse.disk_available,
    )


def _allocation(wish: messages.Allocation) -> NodeAllocation:
    return NodeAllocation(wish.node, platform=wish.platform, cpus=wish.cpus, memory=wish.memory, disk=wish.disk)


def to_client(effect: TellTurn | TellLeased | TellDiscarded | TellRests) -> Control:
    """Make the message that notifies a client of an effect."""
    if isinstance(effect, TellTurn):
        return messages.TurnCame(effect.computation, effect.zombie_period)
    if isinstance(effect, TellDiscarded):
        return messages.Discarded(effect.computation, effect.reason)
    if isinstance(effect, TellRests):
        return NodeRests(effect.computation, effect.node_id, effect.rests)
    facts = effect.facts
    return messages.Leased(effect.computation, facts.node_id, facts.name, facts.addr, facts.port, effect.key)
