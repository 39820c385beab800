"""What a task is, and the rules of its life: plain values and pure functions, nothing that waits or is connected.

In: bytes of a record, what an attempt came to, numbers. Out: records, claims, keys, and what follows from an attempt.

Every room may import this one. It imports none, and no client of Redis or HTTP.
"""
