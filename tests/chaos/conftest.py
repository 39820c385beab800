"""Fixtures of the fault suite: a Redis of its own for each case, a proxy before it, the checker; and the table of
figures."""

from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.chaos.checker import Checker
from tests.chaos.figures import FULL, Figures, keep, table
from tests.support.audit import audited
from tests.support.proxy import Proxy, proxying
from tests.support.receiver import Receiver
from tests.support.redis_process import RedisProcess, redis_process

OWN = pytest.StashKey[Figures]()
ROW = "row of the fault suite"
rows: list[Figures] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "case(number, title): a case of the fault suite")
    config.addinivalue_line("markers", "full: runs only with the full numbers (make chaos)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("full") and not FULL:
            item.add_marker(pytest.mark.skip(reason="runs with `make chaos`"))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """The row of this case; the numbers are printed also where the case fails."""
    marker = request.node.get_closest_marker("case")
    row = Figures(str(marker.args[0]), marker.args[1])
    request.node.stash[OWN] = row
    yield row
    print(f"case {row.case}, {row.title}: {'; '.join(row.notes)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if (row := item.stash.get(OWN, None)) is not None:
        row.seconds += report.duration
        if report.when == "call" or report.failed:
            row.verdict = report.outcome
        if report.when == "teardown":
            # A report reaches the process that prints the table, whichever one ran the case.
            report.user_properties.append((ROW, asdict(row)))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    rows.extend(Figures(**row) for name, row in report.user_properties if name == ROW and isinstance(row, dict))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if rows:
        terminalreporter.section("fault suite")
        for line in table(rows):
            terminalreporter.write_line(line)
    if rows and FULL:
        keep(row for row in rows if row.verdict != "skipped")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    """An empty, append-only Redis on a TCP port, whose process the case may harm; audited at the end."""
    async with redis_process(tmp_path / "redis") as process, audited(process.url):
        yield process


@pytest.fixture
async def raw(server: RedisProcess) -> AsyncIterator[redis.asyncio.Redis]:
    """The library's own client, straight to the server."""
    client = redis.asyncio.Redis.from_url(server.url, protocol=2)
    yield client
    await client.aclose()


@pytest.fixture
async def proxy(server: RedisProcess) -> AsyncIterator[Proxy]:
    """A proxy before the server."""
    async with proxying(server.port) as running:
        yield running


@pytest.fixture
async def checker(
    tmp_path: Path, server: RedisProcess, raw: redis.asyncio.Redis, receiver: Receiver, figures: Figures
) -> AsyncIterator[Checker]:
    """The total-queue checker; it ends the processes that it started."""
    checker = Checker(tmp_path, server.url, raw, receiver, figures)
    try:
        yield checker
    finally:
        await checker.stop()
