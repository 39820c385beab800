"""Spans of schedules and attempts, as a collector gets them over OTLP by HTTP."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from redis_scheduler.errors import SettingsError
from redis_scheduler.process.tracing import SEND_S, check_tracing
from redis_scheduler.settings import Settings
from tests.support.name_server import has_namespaces, naming_for_processes
from tests.support.receiver import Receiver
from tests.support.service import TOKEN, client_of, run, serving
from tests.support.waiting import wait_until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, LEFT_OUT = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def otel() -> Any:
    """What reads the requests to a collector; skips where the extra is not installed."""
    name = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
    return pytest.importorskip(name, reason="the extra `otel` is not installed: make test-otel")


class Collector:
    """Keeps the spans that it is sent."""

    def __init__(self, otel: Any) -> None:
        self._read = otel.ExportTraceServiceRequest.FromString
        self.spans: list[Any] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        wanted = self._read(await request.read())
        self.spans += [span for of in wanted.resource_spans for within in of.scope_spans for span in within.spans]
        return web.Response(body=b"", content_type="application/x-protobuf")

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
async def collector(otel: Any) -> AsyncIterator[Collector]:
    found = Collector(otel)
    application = web.Application()
    application.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    yield found
    await runner.cleanup()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


async def test_a_schedule_is_part_of_the_trace_that_asks_and_attempts_are_part_of_it(
    collector: Collector, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.statuses = [503, 200]
    settings = {"TRACES_URL": collector.url, "TRACES_SHARE": "0", "RETRY_TIME": "0"}
    async with serving(tmp_path, **settings) as process, client_of(process) as client:
        key = (
            await client.call(
                "POST", "/schedule", json={"webhook": receiver.url, "ttl": 0}, headers={"traceparent": SAMPLED}
            )
        )[1]["key"]
        left_out = {"webhook": receiver.url, "ttl": 0}
        await client.call("POST", "/schedule", json=left_out, headers={"traceparent": LEFT_OUT})
        await client.schedule(receiver.url)
        await client.drained()
        await wait_until(lambda: len(collector.named("attempt")) == 2, "both attempts are told", timeout_s=20)
    [schedule] = collector.named("schedule")
    assert (schedule.trace_id.hex(), schedule.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(schedule) == {"http.request.method": "POST", "http.response.status_code": 200}
    attempts = sorted(collector.named("attempt"), key=lambda span: span.start_time_unix_nano)
    for number, (span, status) in enumerate(zip(attempts, (503, 200), strict=True), 1):
        assert (span.trace_id, span.parent_span_id) == (schedule.trace_id, schedule.span_id)
        told = attributes(span)
        assert (told["redis_scheduler.task.key"], told["redis_scheduler.attempt"]) == (key, number)
        assert told["http.response.status_code"] == status
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    assert [span.status.message for span in attempts] == ["answered 503", ""]
    sent = {arrival.headers.get("traceparent") for arrival in receiver.arrivals}
    # Deliveries carry the schedule's own span; what is not to be told goes on as it came.
    assert sent == {f"00-{TRACE}-{schedule.span_id.hex()}-01", LEFT_OUT, None}


async def test_a_share_is_told_where_nobody_says_it(collector: Collector, tmp_path: Path, receiver: Receiver) -> None:
    settings = {"TRACES_URL": collector.url, "TRACES_SHARE": "1", "PROCESSES": "2"}
    async with serving(tmp_path, **settings) as process, client_of(process) as client:
        for _ in range(3):
            await client.schedule(receiver.url)
        await client.drained()
        assert (await client.call("GET", "/stats"))[0] == 200  # which is no span
        await wait_until(lambda: len(collector.spans) == 6, "all is told", timeout_s=20)
    by_trace = {span.trace_id for span in collector.named("schedule")}
    assert {span.trace_id for span in collector.named("attempt")} == by_trace
    assert len(by_trace) == 3


@pytest.mark.usefixtures("otel")
async def test_a_collector_that_is_away_keeps_nobody(tmp_path: Path, receiver: Receiver) -> None:
    settings = {"TRACES_URL": "http://127.0.0.1:1/v1/traces", "TRACES_SHARE": "1"}
    async with serving(tmp_path, **settings) as process, client_of(process) as client:
        await client.schedule(receiver.url)
        await client.drained()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await process.stop()
        assert loop.time() - began < 10
    assert not process.events("fault")


@pytest.mark.skipif(not has_namespaces(), reason="a name server of one's own needs root and unshare")
@pytest.mark.usefixtures("otel")
async def test_a_collector_whose_name_is_not_found_keeps_nobody(tmp_path: Path, receiver: Receiver) -> None:
    settings = {"TRACES_URL": "http://collector.example:4318/v1/traces", "TRACES_SHARE": "1"}
    async with naming_for_processes(lambda name, kind: None, tmp_path) as (server, prefix):
        async with serving(tmp_path, prefix=prefix, **settings) as process, client_of(process) as client:
            await client.schedule(receiver.url)
            await client.drained()
            await wait_until(lambda: server.times_asked("collector.example"), "the collector is looked up")
            loop = asyncio.get_running_loop()
            began = loop.time()
            process.signal(signal.SIGTERM)
            assert await process.ended(60) == 0
            assert loop.time() - began < SEND_S + 4
        assert not process.events("fault")


async def test_without_a_url_nothing_of_it_is_imported() -> None:
    script = (
        "import sys\n"
        "from redis_scheduler.process import service, start, supervisor, imports\n"
        "imports.import_parts('all')\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.exporter')])"
    )
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert (await done.communicate())[0] == b"[]\n"


def test_what_has_no_effect_or_is_missing_is_told(tmp_path: Path) -> None:
    alone = run("api", REDIS_URL="redis://127.0.0.1:1", API_AUTH=TOKEN, TRACES_SHARE="0.5")
    assert alone.returncode == 2
    assert "TRACES_SHARE=0.5: has no effect without TRACES_URL" in alone.stderr
    wrong = run("api", REDIS_URL="redis://127.0.0.1:1", API_AUTH=TOKEN, TRACES_URL="collector:4318")
    assert (wrong.returncode, "must be a URL" in wrong.stderr) == (2, True)


def test_where_the_extra_is_not_installed_the_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SettingsError, match=re.escape("pip install 'redis-scheduler[otel]'")):
        check_tracing(Settings(traces_url="http://127.0.0.1:4318/v1/traces"))
    check_tracing(Settings())
