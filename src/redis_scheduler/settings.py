"""The settings: every option of the service, declared once with its variable, default, rule and help text.

loading.py reads them, and says what some of them come to together. The token cannot be an option: other users can read
a command line.
"""

from dataclasses import dataclass
from pathlib import Path

from redis_scheduler.delivery.egress import LET_THROUGH, Mode
from redis_scheduler.rule import (
    choice,
    delivery_auth,
    egress_rules,
    folder,
    names_of,
    number,
    proxy_url,
    seconds,
    shard_numbers,
    status_list,
    webhook_secrets,
    webhook_url,
    whole_number,
)
from redis_scheduler.serving_settings import ServingSettings
from redis_scheduler.setting import option
from redis_scheduler.task.limit import CONCURRENCY_MOST, RATE_MOST
from redis_scheduler.task.options import Backoff
from redis_scheduler.task.timing import TEN_YEARS_S, TIMEOUT_LONGEST_S

ALL, API, WORKER = "all", "api", "worker"
HALF = "half of the memory of the container or the machine"
ALERTS = ("died", "late", "no-workers", "ledger", "redis-memory", "shard-away", "emptied")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ServingSettings):
    """The validated settings of one process. Times are in seconds, sizes in bytes."""

    delivery_auth: str | None = option(
        "DELIVERY_AUTH",
        None,
        delivery_auth,
        "what deliveries carry in Authorization: api (the API's token), derived (made of it; the API refuses it), none, "
        "or secret:NAME",
        "api where API_AUTH is set, else derived",
    )
    webhook_secret: str | None = option(
        "WEBHOOK_SECRET",
        None,
        webhook_secrets,
        "secrets that sign deliveries (Standard Webhooks): whsec_…, whsk_…, several with spaces between",
        "none: nothing is signed",
        is_secret=True,
        is_public=False,
    )
    webhook_secrets_file: Path | None = option(
        "WEBHOOK_SECRETS_FILE",
        None,
        folder,
        "file of lines host:name=secrets or type:name=secrets, which sign in place of WEBHOOK_SECRET",
        "none",
    )
    secrets_file: Path | None = option(
        "SECRETS_FILE",
        None,
        folder,
        "file of name=value lines: secrets that headers of tasks may name as ${secret:name}",
        "none; a variable SECRET_NAME holds one, too",
    )
    retries: int = option(
        "RETRIES", 5, whole_number(-1, 1_000_000), "retry attempts after the first; -1 retries for ever, 0 never"
    )
    retry_time: float = option(
        "RETRY_TIME", 60, seconds(0, TEN_YEARS_S), "seconds between the end of a failed attempt and the next"
    )
    retry_backoff: Backoff = option(
        "RETRY_BACKOFF",
        "fixed",
        choice("fixed", "linear", "exponential"),
        "fixed, linear or exponential: how the delay grows with each retry",
    )
    retry_max: float | None = option(
        "RETRY_MAX", None, seconds(0.001, TEN_YEARS_S), "seconds of the longest delay that grows", "none"
    )
    retry_jitter: float | None = option(
        "RETRY_JITTER",
        None,
        number(0, 1),
        "up to this share of each delay is left out, by chance",
        "0 for fixed delays, else 0.1",
    )
    retry_for: float | None = option(
        "RETRY_FOR", None, seconds(0.001, TEN_YEARS_S), "no retry so many seconds after the due time", "none"
    )
    retry_after_most: float = option(
        "RETRY_AFTER_MOST",
        86_400,
        seconds(0, TEN_YEARS_S),
        "seconds that Retry-After of a 429 or 503 can put the next attempt off; 0: it does not count",
    )
    final_statuses: str = option(
        "FINAL_STATUSES", "none", status_list, "answers that no retry follows, such as 410 or 400-499,!429"
    )
    timeout: float = option(
        "TIMEOUT", 10, seconds(0.001, TIMEOUT_LONGEST_S), "seconds for one attempt, connection to last byte"
    )
    max_timeout: float = option(
        "MAX_TIMEOUT", 900, seconds(0.001, TIMEOUT_LONGEST_S), "seconds of the longest `timeout` that a task may have"
    )
    concurrency: int = option(
        "CONCURRENCY", 200, whole_number(1, 10_000), "deliveries in flight at once, per worker process"
    )
    worker_shards: str | None = option(
        "WORKER_SHARDS",
        None,
        shard_numbers,
        "shards that a worker delivers from, such as 0-3 or 0,2,5-7; the others need workers of their own",
        "all",
    )
    host_concurrency: int = option(
        "HOST_CONCURRENCY",
        0,
        whole_number(0, CONCURRENCY_MOST),
        "deliveries in flight at once to each host, by all workers together; 0: no limit",
    )
    host_rate: float = option(
        "HOST_RATE",
        0,
        number(0, RATE_MOST),
        "deliveries a second to each host, by all workers together; 0: no limit",
    )
    breaker_failures: int = option(
        "BREAKER_FAILURES",
        0,
        whole_number(0, 1_000_000),
        "failures in a row, and none well for 10 s, after which a host is only probed; 0: never",
    )
    breaker_most: float = option(
        "BREAKER_MOST",
        3_600,
        seconds(1, TEN_YEARS_S),
        "seconds that a task waits for such a host at most; then an attempt is made all the same",
    )
    dead_ttl: float = option(
        "DEAD_TTL", 2_592_000, seconds(0, TEN_YEARS_S), "seconds that a dead letter is kept; 0 keeps none"
    )
    dead_bytes: int = option(
        "DEAD_BYTES",
        268_435_456,
        whole_number(0, 2**50),
        "bytes of Redis that dead letters may take in each shard; 0 keeps none",
    )
    result_ttl: float = option(
        "RESULT_TTL",
        3600,
        seconds(0, TEN_YEARS_S),
        "seconds that a summary of a task that has ended is kept; 0 keeps none",
    )
    result_bytes: int = option(
        "RESULT_BYTES",
        67_108_864,
        whole_number(1_048_576, 2**50),
        "bytes of Redis that such summaries may take in each shard",
    )
    answer_bytes: int = option(
        "ANSWER_BYTES", 1024, whole_number(0, 16_384), "bytes that are kept of the answer to each failed attempt"
    )
    egress: Mode = option(
        "EGRESS",
        "private",
        choice(*LET_THROUGH),
        "private, public, any or none: addresses to which deliveries may go; public: none of a private network",
    )
    egress_allow: str = option(
        "EGRESS_ALLOW", "none", egress_rules, "addresses, networks, host names, ports let through in any mode"
    )
    egress_deny: str = option("EGRESS_DENY", "none", egress_rules, "the same, never let through; it comes first")
    egress_proxy: str | None = option(
        "EGRESS_PROXY",
        None,
        proxy_url,
        "proxy that all deliveries go through, http://user:password@host:port; environment: as HTTPS_PROXY, HTTP_PROXY "
        "and NO_PROXY say",
        "none",
        is_secret=True,
        is_public=False,
    )
    egress_ca_file: Path | None = option(
        "EGRESS_CA_FILE", None, folder, "PEM file of authorities that deliveries trust beside the system's", "none"
    )
    egress_tls_file: Path | None = option(
        "EGRESS_TLS_FILE", None, folder, "JSON file of hosts: client certificate, authority, verification", "none"
    )
    memory_reserve: float = option(
        "MEMORY_RESERVE",
        5,
        number(0, 40, "a percentage"),
        "percent of Redis' memory, where it has a limit, that no new task may take; 0: Redis alone refuses",
    )
    labels_most: int = option(
        "LABELS_MOST",
        1_000_000,
        whole_number(1, 100_000_000),
        "types and labels that may have tasks at one time, in each shard",
    )
    max_memory: int | None = option(
        "MAX_MEMORY", None, whole_number(16 * 1_048_576, 2**50), "bytes that the private Redis may use", HALF
    )
    alert_webhook: str | None = option(
        "ALERT_WEBHOOK",
        None,
        webhook_url,
        "URL that is told what is wrong, as JSON with a `text`: a chat's incoming webhook, say",
        "none: nobody is told",
        is_secret=True,
        is_public=False,
    )
    alert_on: str = option(
        "ALERT_ON",
        ",".join(ALERTS),
        names_of(*ALERTS),
        f"what is told, with commas between: {', '.join(ALERTS)}",
    )
    alert_every: float = option(
        "ALERT_EVERY", 300, seconds(1, 86_400), "seconds between two alerts of the same thing at least"
    )
    alert_late: float = option(
        "ALERT_LATE", 60, seconds(1, TEN_YEARS_S), "seconds that what is due has waited when it is told as late"
    )

    @property
    def carried(self) -> str:
        """What deliveries carry: as the original service where its token is set, else what is safe."""
        return self.delivery_auth or ("api" if self.api_auth else "derived")
