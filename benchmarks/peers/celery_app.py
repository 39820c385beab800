"""Celery: the app of its worker; run as a module, its enqueuer. Both run in the peers' own environment."""

import json
import os
import time
from datetime import UTC, datetime
from typing import Any

import urllib3
from celery import Celery  # type: ignore[import-not-found]  # installed apart
from celery.signals import worker_ready  # type: ignore[import-not-found]  # installed apart

from benchmarks.peers import load
from benchmarks.webhooks import HOSTS

CONCURRENCY = int(os.environ["CONCURRENCY"])

app = Celery("deliveries", broker=os.environ["REDIS_URL"])
app.conf.update(
    # At least once, as the service is: a task is acknowledged when it is done, not when it is received. It costs less
    # than what two runs differ by.
    task_acks_late=True,
    # 0 is no limit: all tasks with an ETA are held in the worker's memory before they are due.
    worker_prefetch_multiplier=0,
    # Each greenlet of a gevent pool acknowledges over a connection of its own; of the default, 10, there are too few:
    # an acknowledgement fails, and its task is delivered again an hour later.
    broker_transport_options={"max_connections": CONCURRENCY + 10},
    task_ignore_result=True,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
    # Standard output is for `ready`.
    worker_redirect_stdouts=False,
)

# Connections are kept, for each host one for each task that may be under way. It is what requests is built on.
http = urllib3.PoolManager(num_pools=HOSTS, maxsize=CONCURRENCY, retries=False)


def deliver(task: Any, webhook: str, content: dict[str, Any]) -> None:
    """POST one task."""
    headers = {"Content-Type": "application/json", "Schedule-Key": task.request.id}
    answer = http.request("POST", webhook, body=json.dumps(content), headers=headers)
    if not 200 <= answer.status < 300:
        raise ValueError(f"status {answer.status}")


deliver_task = app.task(deliver, name="deliver", bind=True)


def tell_ready(**_: Any) -> None:
    """Tell the harness that tasks are taken."""
    print("ready", flush=True)


worker_ready.connect(tell_ready, weak=False)


def enqueue() -> None:
    """Enqueue the load one by one, which is all that Celery has, over one connection."""
    webhooks, asked = load.read()
    due_times: dict[str, float] = {}
    started = time.time()
    with app.producer_or_acquire() as producer:
        for number in range(asked.tasks):
            time.sleep(asked.wait_s(number, started))
            due = asked.due(started)
            eta = datetime.fromtimestamp(due, UTC)
            content = (webhooks.of(number), load.data(number))
            result = deliver_task.apply_async(content, eta=eta, producer=producer)
            due_times[result.id] = due
    load.answer(due_times)


if __name__ == "__main__":
    enqueue()
