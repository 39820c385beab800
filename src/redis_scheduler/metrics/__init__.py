"""What a process counts of its work, and how it is told to Prometheus. Plain numbers: no Redis, no HTTP.

In: numbers, from whoever does what is counted. Out: the text of `GET /metrics`.

    family.py     each metric by its name: kind, labels, meaning
    meter.py      what this process counts: lists of integers, so that to count is to add
    deliveries.py what a second of deliveries adds to them
    hosts.py      attempts by host, of the busiest
    snapshots.py  what the processes of one supervisor have counted, each in a place that outlives it
    text.py       the text format of Prometheus, and OpenMetrics

api, engine, store and process may import it; it imports nothing of the others.
"""
