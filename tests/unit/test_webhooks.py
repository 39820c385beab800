"""What is remembered of webhooks that were checked is bounded."""

import pytest

from redis_scheduler.api import requests
from redis_scheduler.errors import InvalidRequest
from redis_scheduler.task.record import WEBHOOK_LENGTH


def test_a_webhook_that_is_too_long_is_not_remembered() -> None:
    requests._problem.cache_clear()
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="at most 4096 characters"):
            requests.check_webhook("http://host/" + "x" * WEBHOOK_LENGTH)
    assert requests._problem.cache_info().currsize == 0


def test_a_webhook_is_checked_once() -> None:
    requests._problem.cache_clear()
    for _ in range(2):
        requests.check_webhook("http://host/")
        with pytest.raises(InvalidRequest, match="must be an absolute"):
            requests.check_webhook("ftp://host/")
    assert requests._problem.cache_info().misses == 2


@pytest.mark.parametrize("host", ["host", "127.0.0.1", "[::1]", "bücher.example", "01.example"])
@pytest.mark.parametrize("port", ["080", "0080", "00", "08443"])
def test_a_port_has_no_leading_zeros(host: str, port: str) -> None:
    with pytest.raises(InvalidRequest, match=f'port from 1 to 65535, without leading zeros, got "{port}"'):
        requests.check_webhook(f"http://{host}:{port}/")
    requests.check_webhook(f"http://{host}:{port.lstrip('0') or 80}/")
    requests.check_webhook(f"http://{host}/0:{port}?:{port}")
