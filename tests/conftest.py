"""Fixtures: a real Redis for the session, emptied for each test and audited after it; a receiver; a store."""

import gc
import os
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis.asyncio

from redis_scheduler.errors import StartError
from redis_scheduler.process.server_binary import candidates, choose
from redis_scheduler.store.client import RedisClient
from tests.support import parallel, starter
from tests.support.audit import audited
from tests.support.leftovers import ended_with_this_process
from tests.support.names import KEYS, SHARDS
from tests.support.receiver import Receiver, receiving
from tests.support.servers import ARE_IMAGES, CLUSTER, KINDS, put_asked_server_first, running
from tests.support.shards import clients_of
from tests.support.store import Store

LONG_S = 15
"""What takes longer is marked: at the end of the list it would keep the whole run waiting."""

ORDER = {"chaos": 0, "acceptance": 1, "scripts": 2, "integration": 2, "unit": 3}
"""The list is taken from both ends (both_ends.py). Where they meet, scripts, which keep the cores busy, are among tests
that wait."""

GARBAGE = 20_000
"""New objects between two looks at garbage: tests make many that do not live long."""

long_ones: list[str] = []

not_collected: list[str] = []
reported: set[str] = set()
"""Files with an error, and tests of which something was reported."""

collect_ignore = [] if os.environ.get("BROWSER") else ["browser"]
"""Tests in a real browser are a target of their own."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: no other test runs beside it, since it measures what they would disturb")
    config.addinivalue_line(
        "markers", "quiet: only units and others that are quiet run beside it, since it measures delays"
    )
    config.addinivalue_line("markers", "long: takes so long that it must begin before the others")
    config.addinivalue_line("markers", "whole_start: the service is started anew, since the start is what is tested")
    config.addinivalue_line("markers", "one_shard(why): holds only where the service has one shard (TESTED_SHARDS)")
    config.addinivalue_line("markers", "one_server(why): holds only where all keys are on one server, so in no cluster")
    # A busy machine makes no example wrong.
    hypothesis.settings.register_profile("without a deadline", deadline=None)
    hypothesis.settings.load_profile("without a deadline")
    # The many processes that the tests start compile the sources once.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # And none reads all the certificates that the system trusts at its start, a sixth of its CPU time: those in a
    # folder are looked up when they are needed.
    os.environ["SSL_CERT_FILE"] = os.devnull
    # In the background of a script, or under nohup, these are ignored, and whatever a test starts would ignore them,
    # too. A handler is not inherited.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if not parallel.is_one_of_many(config):  # these inherit PATH
        folder = tempfile.TemporaryDirectory(prefix="rs-server-")
        config.add_cleanup(folder.cleanup)
        try:
            put_asked_server_first(Path(folder.name))
        except StartError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_report_header() -> str:
    server = choose(candidates(), None)
    return f"server: {server} ({server.path})"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return parallel.process_count()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect the tests without a look at garbage: they stay."""
    gc.disable()
    try:
        parallel.import_share(session.config)
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(GARBAGE)
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from tests.support.both_ends import BothEnds  # where there is no xdist, it has no base

    return BothEnds(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if ARE_IMAGES:  # what does not use the server runs the same without them
        items[:] = [item for item in items if "redis_server" in getattr(item, "fixturenames", ())]
    items.sort(key=_urgency)
    if parallel.is_one_of_many(config):
        folders = [item.path.parent.name for item in items]
        counts, seen = Counter(folders), Counter[str]()
        places = {}
        for item, folder in zip(items, folders, strict=True):
            seen[folder] += 1
            places[item] = ORDER.get(folder, 0), seen[folder] / counts[folder]  # those of one place are mixed evenly
        items.sort(key=lambda item: (_urgency(item), places[item]))


def _urgency(item: pytest.Item) -> tuple[bool, bool, bool]:
    """Those that are alone or quiet come first, while nothing else has begun that would have to end before; then the
    long ones."""
    return not _has(item, "alone"), not _has(item, "quiet"), not _has(item, "long")


def pytest_collection_finish(session: pytest.Session) -> None:
    parallel.alone_count = sum(_has(item, "alone") for item in session.items)
    parallel.quiet_count = sum(_has(item, "quiet") for item in session.items)


def _has(item: pytest.Item, marker: str) -> bool:
    return item.get_closest_marker(marker) is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, has_more in (("one_shard", SHARDS > 1), ("one_server", KINDS == [CLUSTER])):
        if has_more and (marker := item.get_closest_marker(name)):
            pytest.skip(marker.args[0])
    starter.is_used = item.get_closest_marker("whole_start") is None


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        not_collected.append(report.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    reported.add(report.nodeid)
    if report.when == "call" and report.duration > LONG_S and not {"alone", "quiet", "long"} & report.keywords.keys():
        long_ones.append(f"{report.nodeid} took {report.duration:.0f} s")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Have status 1 say that all tests were run and some failed, as `.ci/tried` takes it: a run that ended since a
    process collected other tests than the rest, or too many died, would have it, too."""
    if exitstatus == pytest.ExitCode.TESTS_FAILED and not parallel.is_one_of_many(session.config):
        is_whole = not not_collected and len(reported) >= session.testscollected
        session.exitstatus = exitstatus if is_whole else pytest.ExitCode.INTERRUPTED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if long_ones:
        terminalreporter.section("without the marker `long`")
        for line in long_ones:
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    is_alone, is_quiet = _has(item, "alone"), _has(item, "quiet")
    names = ["units"] if item.path.parent.name == "unit" else ["others"]
    with parallel.rooms(item.config, *(["others", "units"] if is_alone else names), alone=is_alone, quiet=is_quiet):
        ran = yield
        _forget_failure()
        return ran


def _forget_failure() -> None:
    """Drop what the error of a test that failed has kept: sockets and processes that nobody closed would fail
    another."""
    was_kept = False
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):  # the runner's, for a debugger
        if hasattr(sys, name):
            delattr(sys, name)
            was_kept = True
    if was_kept:
        with warnings.catch_warnings(action="ignore"):
            gc.collect()


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A temporary folder for this run alone: the health check looks at every service that has one in common with it."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(tmp_path_factory.mktemp("tmp", numbered=False))
    starter.variables = dict(os.environ)
    with ended_with_this_process(tmp_path_factory.getbasetemp()):
        yield
        starter.end()


@pytest.fixture(scope="session", params=KINDS)
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real server that lives as long as the session."""
    folder: Path = tmp_path_factory.mktemp("redis")
    with running(request.param, folder) as url:
        yield url


@pytest.fixture
async def _emptied(redis_server: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with audited(redis_server, empties=True) as raw:
        yield raw


@pytest.fixture
def redis_url(redis_server: str, _emptied: redis.asyncio.Redis) -> str:
    """The URL of an empty server; what the test leaves behind is audited."""
    return redis_server


@pytest.fixture
def raw(_emptied: redis.asyncio.Redis) -> redis.asyncio.Redis:
    """The library's own client of that server, to look at keys and to seed them."""
    return _emptied


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RedisClient]:
    """A connection as the service has it: it has looked at what Redis serves, and the group is made."""
    client = RedisClient(redis_url, 3, KEYS)
    await client.ensure_checked()
    await client.create_group()
    yield client
    await client.aclose()


@pytest.fixture
async def clients(redis_url: str) -> AsyncIterator[list[RedisClient]]:
    """The same of each shard that services have here."""
    async with clients_of(redis_url) as clients:
        yield clients


@pytest.fixture
def store(client: RedisClient) -> Store:
    """Both halves of the store, as a consumer named `worker-a`."""
    return Store(client, "worker-a")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of webhooks."""
    async with receiving() as running_receiver:
        yield running_receiver
