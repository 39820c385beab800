"""Time zones, and instants in ms."""

from datetime import UTC, datetime

MINUTE_MS, DAY_MS = 60_000, 86_400_000
NOW_MS = 1_795_737_600_000  # 2026-11-27T00:00:00Z, a Friday

BERLIN, NEW_YORK, SYDNEY, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Sydney", "Australia/Lord_Howe"


def ms_of(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
