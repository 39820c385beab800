"""What a task is, and the rules of its life: plain values and pure functions, nothing that waits or is connected.

In: bytes of a record, what an attempt came to, numbers. Out: records, claims, keys, and what follows from an attempt.

    webhook.py, record.py  the parts of a webhook; what is stored of a task, and how its bytes are made and read
    repeat.py   when a task repeats: its rule, and its times
    options.py  what a task can say beside the usual
    key.py      new keys, what can be a key, and its shard
    claim.py    an entry of the queue, the claim of it, and how a claim ends without success
    timing.py   the limits and intervals of leases, sweeps and batches
    outcome.py  what an attempt came to
    policy.py   how a failed attempt is repeated, by settings and options
    retry.py    what follows from it

Every room may import this one. It imports none, and no client of Redis or HTTP.
"""
