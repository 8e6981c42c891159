"""The numbers for Prometheus and OpenTelemetry, read from the model on request.

Nothing is counted here: the client library only writes the text format. Labels are addresses, which are few; names of
coroutines are not used as labels, as there can be many.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.registry import Collector

from .._config import config
from .._process._telemetry import COUNTERS, RUNNING, Measured, declare, measured_by
from ._rows import SAMPLE_SECONDS
from ._views import summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from ._model import Model

__all__ = ["CONTENT_TYPE", "exposition"]

_GAUGES = {
    "nodes": "Nodes in the cluster.",
    "servers": "Servers in the cluster.",
    "running": RUNNING,
}
_NODE_RUNNING = "Coroutines that run at a node."
_NODE = {
    "cpu": ("discoro_node_cpu_percent", "Processors in use, 0 to 100."),
    "memory": ("discoro_node_memory_bytes", "Memory in use."),
    "memory_total": ("discoro_node_memory_total_bytes", "Memory of the machine."),
    "disk": ("discoro_node_disk_bytes", "Disk in use."),
    "disk_total": ("discoro_node_disk_total_bytes", "Size of the disk."),
}


class _Numbers(Collector):
    def __init__(self, model: Model, browsers: int) -> None:
        self._model = model
        self._browsers = browsers

    def collect(self) -> Iterator[Metric]:
        sums = summary(self._model)
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"discoro_{name}", text, value=_number(sums[name]))
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"discoro_coroutines_{name}", text, value=_number(sums[name]))
        yield GaugeMetricFamily("discoro_monitor_browsers", "Browsers that show the monitor.", value=self._browsers)
        yield from self._nodes()

    def _nodes(self) -> Iterator[Metric]:
        alive = self._model.alive()
        running = GaugeMetricFamily("discoro_node_running", _NODE_RUNNING, labels=["node"])
        for node in alive:
            running.add_metric([node.key], node.counts.running)
        yield running
        for field, (name, text) in _NODE.items():
            family = GaugeMetricFamily(name, text, labels=["node"])
            for node in alive:
                value = getattr(node.load, field)
                if value is not None:
                    family.add_metric([node.key], value)
            yield family


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def exposition(model: Model, browsers: int) -> bytes:
    """Return all numbers in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Numbers(model, browsers))
    return generate_latest(registry)


# --- OpenTelemetry


def _measured(model: Model) -> Iterator[Measured]:
    """Return the same numbers, under the same names."""
    ours = {"discoro.source": "monitor"}
    sums = summary(model)
    for name, text in _GAUGES.items():
        yield Measured(f"discoro_{name}", text, _number(sums[name]), attributes=ours)
    for name, text in COUNTERS.items():
        yield Measured(f"discoro_coroutines_{name}", text, _number(sums[name]), counts=True, attributes=ours)
    for node in model.alive():
        here = {"node": node.key}
        yield Measured("discoro_node_running", _NODE_RUNNING, node.counts.running, attributes=here)
        for field, (name, text) in _NODE.items():
            value = getattr(node.load, field)
            if value is not None:
                yield Measured(name, text, value, attributes=here)


async def keep_measuring(model: Model) -> None:
    """Give the numbers to OpenTelemetry, if it is on, until cancelled."""
    measured = tuple(_measured(model))
    with measured_by(lambda: measured):
        while True:
            await trio.sleep(SAMPLE_SECONDS if config.opentelemetry else math.inf)
            measured = tuple(_measured(model))
            declare(measured)  # those of the first node, for example
