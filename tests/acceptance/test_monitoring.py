"""What stands in deploy/: its rules, dashboard and settings are taken by their own tools, and name what is told."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from redis_scheduler.metrics.family import FAMILIES
from redis_scheduler.store.memory import WARN_SHARE
from tests.acceptance.test_metrics import metrics, samples
from tests.support.receiver import Receiver
from tests.support.redis_process import free_port
from tests.support.service import TOKEN, Client, client_of, serving
from tests.support.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES, DASHBOARD = DEPLOY / "prometheus/rules.yml", DEPLOY / "grafana/scheduler.json"
NAMED = re.compile(r"\b(?:redis_scheduler|http_server)_\w+")


def tool(name: str) -> str:
    """The path of a program; skips where it is not installed."""
    if (found := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return found


def promtool(*arguments: str, text: str | None = None) -> str:
    """What it prints; it must find nothing wrong."""
    command = [tool("promtool"), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, cwd=RULES.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def queries() -> Iterator[str]:
    """Each query of the dashboard, as Prometheus gets it."""
    shown = json.loads(DASHBOARD.read_text())
    for panel in shown["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in shown["annotations"]["list"])


@pytest.fixture
async def service(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Client]:
    """A service that has delivered a task and given another up; a third is to come."""
    async with serving(tmp_path, RETRIES="0", METRICS_HOSTS="5") as process, client_of(process) as client:
        await client.schedule(receiver.url)
        await client.schedule("http://127.0.0.1:1/")
        await client.drained()
        await client.schedule(receiver.url, 3_600)
        yield client


def test_promtool_takes_the_rules_and_each_fires_as_their_cases_say() -> None:
    assert "9 rules found" in promtool("check", "rules", RULES.name)
    promtool("test", "rules", "rules.test.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_the_rule_warns_of_memory_where_the_service_does() -> None:
    rule = re.search(r"- alert: SchedulerRedisMemory\n(?:.*\n)*?.*> ([0-9.]+)\n", RULES.read_text())
    assert rule is not None
    assert float(rule[1]) == WARN_SHARE


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    """promtool compares the alerts of a case with all that fire: so a second deployment in it is one that is well."""
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    cases = re.split(r"\n  - name: ", (RULES.parent / "rules.test.yml").read_text())[1:]
    by_alert: dict[str, str] = {}
    for case in cases:
        for alert in re.findall(r"alertname: (\w+)\n(?:.*\n)*?        exp_alerts:\n", case):
            by_alert[alert] = case
    assert sorted(by_alert) == sorted(alerts)
    for alert, case in by_alert.items():
        deployments = set(re.findall(r'job="(\w+)"', case)) | set(re.findall(r'host="([\w:]+)"', case))
        assert len(deployments) > 1, alert
        assert case.count("exp_labels") == 1, alert


async def test_every_metric_that_rules_and_dashboard_name_is_told(service: Client) -> None:
    named = set(NAMED.findall(RULES.read_text().partition("groups:")[2] + "\n".join(queries())))
    assert len(named) > 20
    text = (await metrics(service))[2]
    assert {name for name in named if re.search(rf"^{name}(\{{| )", text, re.MULTILINE) is None} == set()
    assert {name for name in (family.name for family in FAMILIES) if f"# TYPE {name} " not in text} == set()


def test_each_metric_is_shown_or_has_a_rule() -> None:
    named = "\n".join([RULES.read_text(), *queries()])
    assert [family.name for family in FAMILIES if re.search(rf"\b{family.name}", named) is None] == []


async def test_promtool_finds_nothing_wrong_with_the_metrics(service: Client) -> None:
    assert promtool("check", "metrics", text=(await metrics(service))[2]) == ""


def test_each_query_of_the_dashboard_is_one(tmp_path: Path) -> None:
    found = list(queries())
    assert len(found) > 20
    lines = ["groups:", "- name: dashboard", "  rules:"]
    for number, query in enumerate(found):
        query = query.replace("$__rate_interval", "5m").replace("$job", ".*")
        assert "$" not in query
        lines += [f"  - record: dashboard:query:{number}", f"    expr: {json.dumps(query)}"]
    (tmp_path / "rules.yml").write_text("\n".join(lines) + "\n")
    assert f"{len(found)} rules found" in promtool("check", "rules", str(tmp_path / "rules.yml"))


def test_panels_have_places_of_their_own_and_say_what_they_show() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert is_beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["fieldConfig"]["defaults"]["unit"]


async def test_a_prometheus_scrapes_the_service_and_evaluates_the_rules(service: Client, tmp_path: Path) -> None:
    program, port = tool("prometheus"), free_port()
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "prometheus.yml").write_text(
        f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{RULES}"]
scrape_configs:
- job_name: redis-scheduler
  authorization: {{type: Bearer, credentials_file: token}}
  static_configs: [{{targets: ["{service.url.removeprefix("http://")}"]}}]
"""
    )
    process = await asyncio.create_subprocess_exec(
        *(program, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"),
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        async def asked(path: str, **parameters: str) -> Any:
            try:
                async with service.session.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=parameters) as response:
                    return (await response.json())["data"] if response.status == 200 else None
            except aiohttp.ClientError:
                return None

        async def is_scraped() -> bool:
            found = await asked("query", query='redis_scheduler_ledger_total{counter="delivered"}')
            return bool(found and found["result"] and found["result"][0]["value"][1] == "1")

        async def are_well() -> bool:
            found = await asked("rules")
            rules = [rule for group in found["groups"] for rule in group["rules"]]
            return len(rules) == 9 and {rule["health"] for rule in rules} == {"ok"}

        await wait_until(is_scraped, "Prometheus has scraped the service", timeout_s=40, every_s=0.2)
        await wait_until(are_well, "all rules are evaluated", timeout_s=40, every_s=0.2)
        targets = (await asked("targets"))["activeTargets"]
        assert [target["lastError"] for target in targets] == [""]
        # What it keeps is what it was told.
        told = await samples(service)
        found = await asked("query", query="sum(redis_scheduler_lateness_seconds_count)")
        assert float(found["result"][0]["value"][1]) == told["redis_scheduler_lateness_seconds_count",]
    finally:
        process.kill()
        await process.wait()


def test_compose_takes_both_files_and_what_they_mount_is_there() -> None:
    folder = DEPLOY.parent
    text = (DEPLOY / "compose.monitoring.yaml").read_text()
    mounted = re.findall(r"- (\./[^:]+):", text)
    assert len(mounted) == 4
    for path in mounted:
        assert (folder / path).exists(), path
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed")
    files = ("-f", "compose.yaml", "-f", "deploy/compose.monitoring.yaml")
    done = subprocess.run(
        ["docker-compose", *files, "config"],
        env={"API_AUTH": TOKEN, "REDIS_PASSWORD": "x", "GRAFANA_PASSWORD": "x", "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"METRICS_PORT: ['\"]?9090", done.stdout)
    [text] = re.findall(r"^services:\n((?:  .*\n)+)", done.stdout, re.MULTILINE)
    _, *parts = re.split(r"^  (\w+):\n", text, flags=re.MULTILINE)
    services = dict(zip(parts[::2], parts[1::2], strict=True))
    assert services.keys() == {"api", "worker", "redis", "prometheus", "grafana"}
    for name, service in services.items():
        for bound in ("read_only: true", r"cap_drop:\n +- ALL\n", "no-new-privileges:true", "mem_limit: "):
            assert re.search(bound, service), (name, bound)
