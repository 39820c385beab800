"""Redis: the only room that speaks to it. Each transition of a task is one Lua script, and one method that calls it.

In: records, claims, keys of tasks. Out: the same, counts, and the errors StoreUnavailable, StoreRefused and StoreFull:
no error of the client library leaves this room.

    vault.py, rekeying.py                what is sealed with DATA_KEY; what seals it with another
    keys.py, shard.py, lua/              every key; where tasks stand; one script a transition, whose header says all
    script.py, client.py, connection.py  scripts as they are sent; calls and resends; connections
    answer.py, answer_shape.py           what one answer may take; what each call's answer must be
    refusal.py, outage.py, blocking.py   what an error means; how loops wait for Redis, the queue and the bell
    writes.py, claims.py                 what the API writes; what workers write of their claims
    claiming.py, sweep.py                how workers come to claims; their part in the sweep
    new_task.py, ledger.py, retention.py a task that either schedules; the counts; what is dropped
    views.py, dead_letters.py, cursor.py what is read; where a page of it ends
    stored.py, configuration.py          a task as it stands; what of the server may lose or delay tasks
    written.py, filters.py               what writes are given and answer; which tasks a list is to show
    token.py, tokens.py, alerts.py       tokens with rights; what is to be told; who changed what: journal.py
    memory.py, limiting.py               Redis' memory; limits: what is said of them, who may begin, what is held
    history.py, glance.py, forecast.py   what happened minute by minute; what stands there; what comes due
    audit.py, walk.py, workers.py        what is looked at and repaired; the walk through all keys; who lives
    moves.py, neighbour.py               what export and import read and write; who else is there
    deployment.py, listeners.py, url.py  who shares this Redis, and on what they listen; REDIS_URL

api, engine and process may import it; it imports task and metrics.
"""
