"""The REST API: checks what clients send, writes and reads tasks, answers. It never delivers.

In: HTTP requests. Out: JSON answers with `status`, and for every error one answer (answers.py).

    routes.py, endpoint.py, app.py      the table of routes; what answers at one path; and at all of them
    handlers.py, scheduling.py          what the routes of tasks do; one task or many are written
    shards.py                           what all handlers stand on: the shards, and how a task is read and changed
    shard_calls.py, batcher.py          what is asked of one shard, in round trips that requests share
    dead_letters.py, own_keys.py        what the routes of dead letters do, and PUT
    acknowledgements.py, hosts.py       what those do by which receivers answer later, and those of limits
    shown.py, view.py, waits.py         what is shown of a task, and what it waits for
    changes.py, preconditions.py        what a PATCH makes of a task; ETags
    probes.py, exclusive.py, stats.py   what the routes do that are open to all; one request after another; GET /stats
    reading.py, bodies.py, requests.py  bodies and parameters, each checked once; batch_requests.py: of many tasks
    filters.py, many.py, pace.py        which tasks are wanted; what is done to many; how fast they come due then
    shifts.py, operations.py            many come earlier or later; how what is done to many goes on (steps.py)
    webhooks.py, content.py, trace.py   URLs; what is sent; the trace that a request is part of (headers.py)
    diagnosis.py, hints.py              what is wrong with a body, and what to do instead
    repeats.py, idempotency.py, answers.py how a task repeats; requests that come again; answers
    auth.py, callers.py, own_types.py   who may ask; cors.py, quotas.py, admission.py: pages, limits, connections
    server.py, protocol.py, waiting.py  the server; one connection of it, and how it waits
    closing.py, bounds.py, pages.py     how a connection ends; what it and all pages may hold (limits.py); room.py

process may import it; it imports store and task, and never engine or delivery.
"""
