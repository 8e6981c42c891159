"""OpenTelemetry: spans with their parents across processes, metrics and trace ids, seen by the SDK's own exporters."""

from __future__ import annotations

import json
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import discoro_trio as discoro

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

pytestmark = pytest.mark.spec("B41")


class Exported:
    """What was exported in this process; the global providers can be set only once."""

    spans = InMemorySpanExporter()
    numbers = InMemoryMetricReader()
    provider = TracerProvider()


@pytest.fixture(scope="session")  # OpenTelemetry takes providers once in a process
def providers() -> None:
    Exported.provider.add_span_processor(SimpleSpanProcessor(Exported.spans))
    trace.set_tracer_provider(Exported.provider)
    metrics.set_meter_provider(MeterProvider([Exported.numbers]))


@pytest.fixture
def telemetry(providers: None) -> Iterator[None]:
    discoro.config.opentelemetry = True
    Exported.spans.clear()
    yield
    discoro.config.opentelemetry = False


def exported() -> dict[str, ReadableSpan]:
    return {span.name: span for span in Exported.spans.get_finished_spans()}


def parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def own(span: ReadableSpan) -> int:
    assert span.context is not None
    number: int = span.context.span_id
    return number


def numbers() -> dict[tuple[str, str], float]:
    data = Exported.numbers.get_metrics_data()
    assert data is not None
    return {
        (metric.name, str((point.attributes or {}).get("discoro.source"))): point.value  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


async def seen() -> str:
    await trio.lowlevel.checkpoint()
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}-{context.span_id:016x}"


async def fail() -> None:
    await trio.lowlevel.checkpoint()
    message = "no such block"
    raise ValueError(message)


def plain() -> str:
    return f"{trace.get_current_span().get_span_context().span_id:016x}"


@pytest.mark.usefixtures("telemetry")
async def test_every_coroutine_has_a_span_below_the_one_of_its_caller_or_its_computation() -> None:
    tracer = trace.get_tracer("mine")
    async with (
        discoro.open_cluster(servers=2),
        discoro.Computation([seen, fail, plain], name="sweep").schedule() as computation,
    ):
        first = await computation.run_result(seen)
        in_thread = await computation.run_result(plain)
        with tracer.start_as_current_span("mine"):
            second = await computation.run_result(seen)
        with pytest.raises(ValueError, match="no such block"):
            await computation.run_result(fail)
        async with computation.map(fail_or_not, range(3), errors="collect") as results:
            assert len([value async for value in results]) == 3
    spans = exported()
    sweep, mine = spans["sweep"], spans["mine"]
    assert sweep.context is not None
    assert parent(mine) == own(sweep)
    of_seen = [span for span in Exported.spans.get_finished_spans() if span.name == "seen"]
    assert [parent(span) for span in of_seen] == [own(sweep), own(mine)]
    ids = [f"{sweep.context.trace_id:032x}-{own(span):016x}" for span in of_seen]
    assert [first, second] == ids, "it is the current span at the server"
    assert in_thread == f"{own(spans['plain']):016x}"
    assert spans["fail"].status.status_code is StatusCode.ERROR
    assert spans["fail"].status.description == "ValueError: no such block"
    assert spans["fail"].events[0].name == "exception"
    attributes = spans["seen"].attributes
    assert attributes is not None
    assert attributes["discoro.ending"] == "value"
    assert str(attributes["discoro.server"]).startswith("127.0.0.1:")
    failed = [span.status.status_code for span in Exported.spans.get_finished_spans() if span.name == "fail_or_not"]
    assert failed.count(StatusCode.ERROR) == 1
    assert len(failed) == 3


async def fail_or_not(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 1 // number


def set_up_exporter(path: str) -> None:
    """Let a server write its spans to a file, as it would send them to a collector."""
    provider = TracerProvider()
    out = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115, PTH123 - as long as the process
    exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


async def inner() -> str:
    return await seen()


async def outer(computation: discoro.Computation) -> str:
    async with discoro.open_nursery() as nursery:
        nursery.start_soon(inner, name="near")
    return await computation.run_result(inner)


@pytest.mark.usefixtures("telemetry")
async def test_a_server_with_an_exporter_adds_its_spans_to_the_same_trace(tmp_path: Path) -> None:
    path = tmp_path / "spans"
    computation = discoro.Computation([inner, outer, seen], server_setup=partial(set_up_exporter, str(path)))
    async with discoro.open_cluster(servers=2), computation.schedule() as scheduled:
        await scheduled.run_result(outer, scheduled)
    started = exported()["outer"]
    assert started.context is not None
    there = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {one["context"]["trace_id"] for one in there} == {f"0x{started.context.trace_id:032x}"}
    by_kind = {(one["name"], one["kind"]): one for one in there}
    run = by_kind["outer", "SpanKind.CONSUMER"]
    assert run["parent_id"] == f"0x{own(started):016x}"
    for nested in (by_kind["near", "SpanKind.PRODUCER"], by_kind["inner", "SpanKind.PRODUCER"]):
        assert nested["parent_id"] == run["context"]["span_id"]
    far = by_kind["inner", "SpanKind.CONSUMER"]
    assert far["parent_id"] == by_kind["inner", "SpanKind.PRODUCER"]["context"]["span_id"]


async def write_log() -> None:
    await trio.lowlevel.checkpoint()
    logging.getLogger("job").warning("nearly full")


@pytest.mark.usefixtures("telemetry")
async def test_a_forwarded_log_record_has_the_ids_of_its_coroutine(caplog: pytest.LogCaptureFixture) -> None:
    current: list[int] = []

    class Handler(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            current.append(trace.get_current_span().get_span_context().span_id)

    handler = Handler()
    logging.getLogger("job").addHandler(handler)
    try:
        async with (
            discoro.open_cluster(servers=1),
            discoro.Computation([write_log]).schedule() as computation,
        ):
            await computation.run_result(write_log)
    finally:
        logging.getLogger("job").removeHandler(handler)
    span = exported()["write_log"]
    assert span.context is not None
    (record,) = [record for record in caplog.records if record.name == "job"]
    assert record.__dict__["otelTraceID"] == f"{span.context.trace_id:032x}"
    assert record.__dict__["otelSpanID"] == f"{own(span):016x}"
    assert current == [own(span)]


@pytest.mark.usefixtures("telemetry")
async def test_metrics_have_the_names_and_values_of_the_monitor() -> None:
    async with (
        discoro.open_cluster(servers=2) as scheduler,
        discoro.open_http_server(scheduler, port=0),
        discoro.Computation([fail_or_not]).schedule() as computation,
    ):
        before = numbers().get(("discoro_coroutines_failed", "starter"), 0)
        async with computation.map(fail_or_not, range(3), errors="collect") as results:
            assert len([value async for value in results]) == 3
        found = numbers()
        assert found["discoro_coroutines_failed", "starter"] == before + 1
        assert found["discoro_running", "starter"] == 0
        with trio.fail_after(30):
            while (
                found["discoro_coroutines_failed", "monitor"] != 1
                or found["discoro_coroutines_submitted", "monitor"] != 3
            ):
                await trio.sleep(0.1)
                found = numbers()  # each server reports on its own
        assert found["discoro_servers", "monitor"] == 2
        assert ("discoro_node_running", "None") in found
    assert ("discoro_servers", "monitor") not in numbers()


async def test_without_it_nothing_is_made_or_imported() -> None:
    program = """
import sys, trio
import discoro_trio as discoro

def loaded():
    return any(name.startswith("opentelemetry") for name in sys.modules)

async def main():
    async with discoro.open_cluster(servers=1), discoro.Computation([loaded]).schedule() as computation:
        print(await computation.run_result(loaded), loaded())

trio.run(main)
"""
    found = await trio.run_process([sys.executable, "-c", program], capture_stdout=True)
    assert found.stdout.decode().split() == ["False", "False"]


def test_the_setting_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match=r"config\.opentelemetry"):
        discoro.config.opentelemetry = 1  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ImportError, match=r"discoro_trio\[otel\]"):
        discoro.config.opentelemetry = True
    assert not discoro.config.opentelemetry
