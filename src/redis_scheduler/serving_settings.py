"""What the settings say of the service: its Redis and what stands there sealed, who may ask, and where it listens; what
it tells of itself."""

from dataclasses import dataclass
from pathlib import Path

from redis_scheduler.rule import (
    badge,
    choice,
    data_keys,
    folder,
    host_name,
    http_url,
    namespace_name,
    networks,
    number,
    one_or_two_tokens,
    origin_list,
    seconds,
    url_path,
    whole_number,
)
from redis_scheduler.setting import option
from redis_scheduler.store.url import validated
from redis_scheduler.task.key import SHARDS_MOST


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """Times are in seconds, sizes in bytes."""

    redis_url: str | None = option(
        "REDIS_URL",
        None,
        validated,
        "Redis or Valkey to use: redis://, rediss:// or unix://; redis+sentinel://host,host/name behind Sentinels, "
        "redis+cluster://host,host for a cluster",
        "none: a private Redis is started in DATA_DIR",
        is_secret=True,
    )
    replicas: int = option(
        "REPLICAS",
        0,
        whole_number(0, 10),
        "replicas of Redis that must have what the API writes before it answers 200; too few in time: 503",
    )
    namespace: str = option(
        "NAMESPACE", "", namespace_name, "name of this deployment among several on one Redis", "none: the only one"
    )
    shards: int | None = option(
        "SHARDS",
        None,
        whole_number(1, SHARDS_MOST),
        "shards that new tasks are spread over, each with a hash tag of its own",
        "1, or as many as REDIS_URL names servers",
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
    port: int = option("PORT", 8080, whole_number(0, 65_535), "port of the API; 0 takes a free one")
    host: str | None = option(
        "HOST", None, host_name, "address to listen on", "127.0.0.1 without API_AUTH, all interfaces with it"
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
        "bytes of Redis that these keys may take in each shard, some 340 each; none is dropped early",
    )
    audit_entries: int = option(
        "AUDIT_ENTRIES", 10_000, whole_number(0, 1_000_000), "changes that are kept for GET /audit; 0: none"
    )
    audit_api: str = option(
        "AUDIT_API", "off", choice("on", "off"), "on or off: note each change that is made with API_AUTH, new tasks too"
    )
    token_grace: float = option(
        "TOKEN_GRACE",
        60,
        seconds(0, 86_400),
        "seconds for which a token with rights is taken while Redis, which keeps it, is away",
    )
    token_rate: float = option(
        "TOKEN_RATE",
        0,
        number(0, 1_000_000),
        "tasks a second that a token may schedule which has no --rate of its own; 0: any number",
    )
    token_tasks: int = option(
        "TOKEN_TASKS",
        0,
        whole_number(0, 1_000_000_000),
        "tasks that may wait of a token which has no --tasks of its own; 0: any number",
    )
    token_bytes: int = option(
        "TOKEN_BYTES",
        0,
        whole_number(0, 10**12),
        "bytes that the records of these may have, of a token which has no --bytes of its own; 0: any number",
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
    def listen_host(self) -> str:
        """The address to listen on: HOST, else all interfaces, or only loopback where the service made the token
        itself."""
        return self.host or ("::" if self.api_auth else "127.0.0.1")
