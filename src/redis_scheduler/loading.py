"""Where the settings come from: `load` takes options first, then the environment, then the defaults (setting.py); and
what some of them come to together: policy, breaker, limit.

A wrong setting, or two that contradict each other, are told in one line each, all at once.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from redis_scheduler.delivery.proxy import ENVIRONMENT
from redis_scheduler.errors import SettingsError
from redis_scheduler.rule import numbers_in
from redis_scheduler.setting import value_of
from redis_scheduler.settings import ALL, Settings
from redis_scheduler.store.url import urls_of_shards
from redis_scheduler.task.limit import Breaking, Limit
from redis_scheduler.task.policy import TEN_YEARS_MS, Policy, refused_by
from redis_scheduler.task.statuses import statuses


def load(
    role: str, options: Mapping[str, str | None] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings for one role; `options` holds the texts of options by field name, None where not given.

    Raises SettingsError with a line for each problem, so that all can be mended at once.
    """
    options = options or {}
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    problems: list[str] = []
    for setting in dataclasses.fields(Settings):
        try:
            value = value_of(setting.metadata, options.get(setting.name), environment)
        except ValueError as error:
            problems.append(str(error))
        else:
            if value is not None:
                values[setting.name] = value
    if role != ALL:
        problems += [
            f"{variable}: must be set for `redis-scheduler {role}`, or {variable}_FILE"
            for name, variable in (("redis_url", "REDIS_URL"), ("api_auth", "API_AUTH"))
            if name not in values and not any(problem.startswith(variable) for problem in problems)
        ]
    if problems:
        raise SettingsError(problems)
    settings = Settings(**values)
    if problems := _contradictions(settings):
        raise SettingsError(problems)
    return settings


def _contradictions(settings: Settings) -> list[str]:
    """Return a line for each setting that is right by itself, but not beside another."""
    given = {}
    if settings.retry_for is not None and settings.retries:
        given["retry_for"] = settings.retry_for
    if settings.retry_max is not None and settings.retry_backoff != "fixed":
        given["retry_max"] = settings.retry_max
    # Whatever RETRIES says: a task may have retries of its own.
    refused = refused_by(dataclasses.replace(policy_of(settings), retries=-1), given)
    problems = [f"{name.upper()}={given[name]:g}: {rule}" for name, rule in refused]
    if settings.egress_proxy and settings.egress_proxy != ENVIRONMENT:
        problems += [
            f"{name}={value}: has no effect beside EGRESS_PROXY, which decides then"
            for name, value, usual in (
                ("EGRESS", settings.egress, "private"),
                ("EGRESS_ALLOW", settings.egress_allow, "none"),
                ("EGRESS_DENY", settings.egress_deny, "none"),
            )
            if value != usual
        ]
    if settings.data_plain == "refuse" and settings.data_key is None:
        problems.append("DATA_PLAIN=refuse: has no effect without DATA_KEY, which seals")
    if settings.replicas and not settings.redis_url:
        problems.append(f"REPLICAS={settings.replicas}: has no effect without REDIS_URL: the private Redis has none")
    try:
        urls_of_shards(settings.redis_url or "", settings.shards)
    except ValueError as error:
        problems.append(f"SHARDS={settings.shards}: REDIS_URL {error}")
    else:
        problems += _unreachable(settings)
    if settings.max_memory is not None and settings.redis_url:
        problems.append("MAX_MEMORY: is of the private Redis, and without effect beside REDIS_URL: set its maxmemory")
    if settings.traces_share is not None and settings.traces_url is None:
        problems.append(
            f"TRACES_SHARE={settings.traces_share:g}: has no effect without TRACES_URL, where spans are sent"
        )
    if settings.max_timeout < settings.timeout:
        problems.append(
            f"MAX_TIMEOUT={settings.max_timeout:g}: must be at least TIMEOUT, which is {settings.timeout:g}"
        )
    if settings.egress == "public" and settings.api_auth and settings.delivery_auth is None:
        problems.append(
            "EGRESS=public: deliveries would carry API_AUTH, with which receivers could use the API; set DELIVERY_AUTH, "
            "such as to derived"
        )
    return problems


def _unreachable(settings: Settings) -> list[str]:
    """Return a line if a worker is to deliver from shards whose servers are not listed."""
    listed = len(urls_of_shards(settings.redis_url or ""))
    if settings.worker_shards is None or listed == 1 or max(numbers_in(settings.worker_shards)) < listed:
        return []
    return [
        f"WORKER_SHARDS={settings.worker_shards}: must be numbers from 0 to {listed - 1}: REDIS_URL lists {listed} servers"
    ]


def shard_count_of(settings: Settings) -> int:
    """Return how many shards new tasks are spread over."""
    return settings.shards or len(urls_of_shards(settings.redis_url or ""))


def policy_of(settings: Settings) -> Policy:
    """Return how failed attempts are repeated, unless a task says it for itself."""
    return Policy(
        settings.retries,
        round(settings.retry_time * 1000),
        settings.retry_backoff,
        TEN_YEARS_MS if settings.retry_max is None else round(settings.retry_max * 1000),
        settings.retry_jitter,
        None if settings.retry_for is None else round(settings.retry_for * 1000),
        final=statuses(settings.final_statuses),
        after_most_ms=round(settings.retry_after_most * 1000),
    )


def breaking_of(settings: Settings) -> Breaking:
    """Return when a host's breaker opens."""
    return Breaking(settings.breaker_failures, round(settings.breaker_most * 1000))


def host_limit_of(settings: Settings) -> Limit:
    """Return the limit of a host for which none is set."""
    return Limit(settings.host_concurrency, settings.host_rate)


SOURCES = "REDIS_SCHEDULER_SOURCES"
"""The variable by which a supervisor tells its children where their settings come from."""


def sources(settings: Settings, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return where those settings come from that were given, by their variables: environment, option, or the path of
    the file that a secret was read from."""
    environment = os.environ if environment is None else environment
    if told := environment.get(SOURCES):
        return msgspec.json.decode(told, type=dict[str, str])
    found = {}
    for setting in dataclasses.fields(settings):
        variable, value = setting.metadata["variable"], getattr(settings, setting.name)
        try:
            given = value_of(setting.metadata, None, environment)
        except ValueError:  # an option took its place
            given = None
        if given is not None and given == value:
            found[variable] = "environment" if environment.get(variable) else environment[f"{variable}_FILE"]
        elif value != setting.default:
            found[variable] = "option"
    return found


def variables(settings: Settings) -> dict[str, str]:
    """Return the variables from which `load` makes the same settings."""
    found = {}
    for setting in dataclasses.fields(settings):
        variable, value = setting.metadata["variable"], getattr(settings, setting.name)
        found[variable] = "" if value is None else str(value)
        if setting.metadata["is_secret"]:
            found[f"{variable}_FILE"] = ""
    return found
