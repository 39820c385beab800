"""What a process counts of its work, and how it is told to Prometheus. Plain numbers: no Redis, no HTTP.

In: numbers, from whoever does what is counted. Out: the text of `GET /metrics`.

api, engine, store and process may import it; it imports nothing of the others.
"""
