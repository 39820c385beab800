"""The settings: every option of the service, declared once with its variable, default, rule and help text.

loading.py reads them, and says what some of them come to together. The token cannot be an option: other users can read
a command line.
"""

from dataclasses import dataclass
from pathlib import Path

from redis_scheduler.delivery.egress import LET_THROUGH, Mode
from redis_scheduler.setting import (
    badge,
    choice,
    data_keys,
    delivery_auth,
    egress_rules,
    folder,
    host_name,
    http_url,
    names_of,
    namespace_name,
    networks,
    number,
    one_or_two_tokens,
    option,
    origin_list,
    proxy_url,
    seconds,
    status_list,
    url_path,
    webhook_secrets,
    webhook_url,
    whole_number,
)
from redis_scheduler.store.url import validated
from redis_scheduler.task.limit import CONCURRENCY_MOST, RATE_MOST
from redis_scheduler.task.options import Backoff
from redis_scheduler.task.timing import TEN_YEARS_S, TIMEOUT_LONGEST_S

ALL, API, WORKER = "all", "api", "worker"
HALF = "half of the memory of the container or the machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated settings of one process. Times are in seconds, sizes in bytes."""

    redis_url: str | None = option(
        "REDIS_URL",
        None,
        validated,
        "Redis or Valkey to use: redis://, rediss:// or unix://",
        "none: a private Redis is started in DATA_DIR",
        is_secret=True,
    )
    namespace: str = option(
        "NAMESPACE", "", namespace_name, "name of this deployment among several on one Redis", "none: the only one"
    )
    api_auth: str | None = option(
        "API_AUTH",
        None,
        one_or_two_tokens,
        "token that API requests must carry; two with a space between while it is changed: the first counts for "
        "deliveries",
        "none: a token is made and kept in DATA_DIR",
        is_secret=True,
        is_public=False,
    )
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
    port: int = option("PORT", 8080, whole_number(0, 65_535), "port of the API; 0 takes a free one")
    host: str | None = option(
        "HOST", None, host_name, "address to listen on", "127.0.0.1 without API_AUTH, all interfaces with it"
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
    processes: int = option(
        "PROCESSES", 1, whole_number(1, 64), "processes of the role, under one supervisor that replaces what dies"
    )
    max_body: int = option("MAX_BODY", 1_048_576, whole_number(1, 256 * 1_048_576), "bytes of a request body")
    idempotency_ttl: float = option(
        "IDEMPOTENCY_TTL",
        86_400,
        seconds(60, 2_592_000),
        "seconds within which a request with the same Idempotency-Key gets the first answer again",
    )
    idempotency_bytes: int = option(
        "IDEMPOTENCY_BYTES",
        67_108_864,
        whole_number(1_048_576, 2**50),
        "bytes of Redis that these keys may take, some 340 each; none is dropped early",
    )
    audit_entries: int = option(
        "AUDIT_ENTRIES", 10_000, whole_number(0, 1_000_000), "changes that are kept for GET /audit; 0: none"
    )
    token_grace: float = option(
        "TOKEN_GRACE",
        60,
        seconds(0, 86_400),
        "seconds for which a token with rights is taken while Redis, which keeps it, is away",
    )
    cors_origins: str = option(
        "CORS_ORIGINS",
        "",
        origin_list,
        "origins whose pages may ask from a browser, such as https://shop.example, with spaces between",
        "none",
    )
    ui: str = option("UI", "on", choice("on", "off"), "on or off: the dashboard at /ui/")
    environment: str = option("ENVIRONMENT", "", badge, "name that the dashboard shows, red for production", "none")
    base_path: str = option("BASE_PATH", "", url_path, "path under which a proxy shows the service, as /jobs", "none")
    trusted_proxies: str = option(
        "TRUSTED_PROXIES", "", networks, "networks of proxies whose X-Forwarded headers the dashboard believes", "none"
    )
    ui_echo: str = option("UI_ECHO", "on", choice("on", "off"), "on or off: its receiver, to try deliveries with")
    api_connections: int | None = option(
        "API_CONNECTIONS",
        None,
        whole_number(4, 1_000_000),
        "connections to the API at once, per process; at most half the limit of open files where deliveries are made",
        "10000, or as many as the limit of open files allows",
    )
    dead_ttl: float = option(
        "DEAD_TTL", 2_592_000, seconds(0, TEN_YEARS_S), "seconds that a dead letter is kept; 0 keeps none"
    )
    dead_bytes: int = option(
        "DEAD_BYTES", 268_435_456, whole_number(0, 2**50), "bytes of Redis that dead letters may take; 0 keeps none"
    )
    result_ttl: float = option(
        "RESULT_TTL",
        3600,
        seconds(0, TEN_YEARS_S),
        "seconds that a summary of a task that has ended is kept; 0 keeps none",
    )
    result_bytes: int = option(
        "RESULT_BYTES", 67_108_864, whole_number(1_048_576, 2**50), "bytes of Redis that such summaries may take"
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
        "LABELS_MOST", 1_000_000, whole_number(1, 100_000_000), "types and labels that may have tasks at one time"
    )
    max_memory: int | None = option(
        "MAX_MEMORY", None, whole_number(16 * 1_048_576, 2**50), "bytes that the private Redis may use", HALF
    )
    data_key: str | None = option(
        "DATA_KEY",
        None,
        data_keys,
        "key that seals webhooks, headers, data and answers in Redis: 32 bytes in base64; several with spaces between: the "
        "first seals, all open",
        "none: nothing is sealed",
        is_secret=True,
        is_public=False,
    )
    data_plain: str = option(
        "DATA_PLAIN", "read", choice("read", "refuse"), "what becomes of records that are not sealed, with DATA_KEY"
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
        "died,late,no-workers,ledger,redis-memory",
        names_of("died", "late", "no-workers", "ledger", "redis-memory"),
        "what is told, with commas between: died, late, no-workers, ledger, redis-memory",
    )
    alert_every: float = option(
        "ALERT_EVERY", 300, seconds(1, 86_400), "seconds between two alerts of the same thing at least"
    )
    alert_late: float = option(
        "ALERT_LATE", 60, seconds(1, TEN_YEARS_S), "seconds that what is due has waited when it is told as late"
    )
    shutdown_grace: float = option(
        "SHUTDOWN_GRACE", 15, seconds(0, 3_600), "seconds to finish what is in flight when stopping"
    )
    api_metrics: str = option(
        "API_METRICS", "token", choice("open", "token"), "who may read /metrics: open, or token: with the right metrics"
    )
    metrics_port: int | None = option(
        "METRICS_PORT", None, whole_number(0, 65_535), "port of /metrics alone, also of a worker; 0: a free one", "none"
    )
    metrics_hosts: int = option(
        "METRICS_HOSTS", 0, whole_number(0, 1_000), "hosts, the busiest, whose attempts /metrics tells; 0: of none"
    )
    traces_url: str | None = option(
        "TRACES_URL", None, http_url, "where spans are sent, OTLP by HTTP: http://collector:4318/v1/traces", "none"
    )
    traces_share: float | None = option(
        "TRACES_SHARE", None, number(0, 1), "share of schedules that are traced, where no traceparent says it", "0.01"
    )
    data_dir: Path = option(
        "DATA_DIR", Path("./redis-scheduler-data"), folder, "folder of the private Redis", "./redis-scheduler-data"
    )
    log_level: str = option(
        "LOG_LEVEL", "info", choice("debug", "info", "warning", "error"), "debug, info, warning or error"
    )
    log_format: str | None = option(
        "LOG_FORMAT", None, choice("text", "json"), "text or json", "text on a terminal, else json"
    )

    @property
    def carried(self) -> str:
        """What deliveries carry: as the original service where its token is set, else what is safe."""
        return self.delivery_auth or ("api" if self.api_auth else "derived")

    @property
    def listen_host(self) -> str:
        """The address to listen on: HOST, else all interfaces, or only loopback where the service made the token
        itself."""
        return self.host or ("::" if self.api_auth else "127.0.0.1")
