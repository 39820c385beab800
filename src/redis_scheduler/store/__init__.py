"""Redis: the only room that speaks to it. Each transition of a task is one Lua script, and one method that calls it.

In: records, claims, keys of tasks. Out: the same, counts, and the errors StoreUnavailable, StoreRefused and StoreFull: no error
of the client library leaves this room.

    keys.py, lua/                        every key; one script a transition, whose header says all about it
    script.py, client.py                 scripts as they are sent; calls and resends
    connection.py, answer.py             connections; what one answer may take
    answer_shape.py                      what each call's answer must be
    refusal.py, outage.py, url.py        what an error of Redis means; how loops wait until it is over; REDIS_URL
    writes.py, claims.py, blocking.py    what the API writes; what workers write; what is waited for: the queue, the bell
    views.py, ledger.py, audit.py        what is read, counted, and repaired
    deployment.py, neighbour.py          who shares this Redis

api, engine and process may import it; it imports task.
"""
