"""The REST API: checks what clients send, writes and reads tasks, answers. It never delivers.

In: HTTP requests. Out: JSON answers with `status`, and for every error one answer (answers.py).

    routes.py, endpoint.py, app.py      the table of routes; what answers at one path; and at all of them
    handlers.py, scheduling.py          what the routes of one task do (moved.py: answers); one or many are written
    shards.py, shard_calls.py           what all handlers stand on; what is asked of one shard, together (batcher.py)
    dead_letters.py, own_keys.py        what the routes of dead letters do, and PUT
    acknowledgements.py, hosts.py       what those do by which receivers answer later, and those of limits
    shown.py, view.py, waits.py         what is shown of a task, and what it waits for
    changes.py, preconditions.py        what a PATCH makes of a task; ETags; exclusive.py; journal.py, request_ids.py
    probes.py, stats.py, metrics.py     what the routes do that are open to all; GET /stats; GET /metrics
    reading.py, bodies.py, requests.py  bodies and parameters; host_bodies.py of hosts, batch_requests.py of many
    filters.py, many.py, pace.py        which tasks are wanted; what is done to many; how fast they come due then
    shifts.py, operations.py, steps.py  many come earlier or later; how what is done to many goes on, step by step
    webhooks.py, content.py, trace.py   URLs; what is sent; the trace of a request: headers.py, spanned.py
    diagnosis.py, hints.py              what is wrong with a body; OpenAPI: openapi.py, fields.py, examples.py
    repeats.py, idempotency.py, room.py how a task repeats; requests that come again; room in Redis' memory
    auth.py, callers.py, own_types.py   who may ask; the tokens with rights; and what of tasks these see
    cors.py, quotas.py, admission.py    pages of other origins; limits of tokens; how many connections there may be
    server.py, protocol.py, waiting.py  the server; one connection of it, and how it waits
    closing.py, bounds.py, pages.py     how a connection ends; what it and all pages may hold (limits.py)

process may import it; it imports store, task and metrics, and never engine or delivery.
"""
