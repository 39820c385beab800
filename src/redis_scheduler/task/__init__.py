"""What a task is, and the rules of its life: plain values and pure functions, nothing that waits or is connected.

In: bytes of a record, what an attempt came to, numbers. Out: records, claims, keys, and what follows from an attempt.

    record.py                what is stored of a task
    record_head.py           its bytes before the data, and how they are read fast
    webhook.py               the parts of a webhook
    acknowledgement.py       what a receiver says later of a job that it took on
    options.py, statuses.py  what a task can say beside the usual; statuses as people name several
    content.py, header.py    what it was given to be sent; what it may say of its headers
    key.py                   new keys, what can be a key, and its shard
    label.py, listing.py     what it may say of its labels; where it is listed (limit.py: how much of a host)
    claim.py                 an entry of the queue, the claim of it, and how a claim ends without success
    timing.py, kept.py       the limits and intervals of leases, sweeps and batches; how long what has ended is kept
    outcome.py, answer.py    what an attempt came to, and what its answer says about the next
    due.py                   when a task is due, by a delay or a time
    repeat.py, times.py      when a task repeats: its rule, its times
    series.py                what a series does when it comes due
    failure.py, attempts.py  what is kept of failed attempts: the last, and a few before it
    summary.py, json_text.py what is kept of a task that has ended; whether a text is JSON
    callback.py, tally.py    what its end starts, and what that is told; what happened in a few seconds, as numbers
    policy.py, retry.py      how a failed attempt is repeated, and what follows from one

Every room may import this one. It imports none, and no client of Redis or HTTP.
"""
