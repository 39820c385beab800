"""Redis: the only room that speaks to it. Each transition of a task is one Lua script, and one method that calls it.

In: records, claims, keys of tasks. Out: the same, counts, and the errors StoreUnavailable, StoreRefused and StoreFull:
no error of the client library leaves this room.

api, engine and process may import it; it imports task and metrics.
"""
