"""The loops that move tasks: what is due is claimed, attempted, and its outcome written. Each loop is `run(stop)`.

In: the entries that Redis gives this process. Out: attempts, and outcomes written to the store. Any number of
processes may run these loops. In which order its files import each other is a contract in pyproject.toml.

process may import it; it imports delivery, store, task and metrics, and never api.
"""
