"""The loops that move tasks: what is due is claimed, attempted, and its outcome written. Each loop is `run(stop)`.

In: the entries that Redis gives this process. Out: attempts, and outcomes written to the store. Any number of
processes may run these loops. Each file imports only files that stand after it:

    engine.py, consumer.py  runs all and stops it in order; the loops of one shard
    timer.py, reclaimer.py  when something is due, and when a sweep: retries, tasks of lost workers
    trimmer.py, history.py  drops what is not to be kept of tasks that have ended; counts: busiest.py, spanned.py
    intake.py               brings claims, hands each on once, renews leases
    limiter.py              asks whether claims may begin under limits, has what is held admitted
    judge.py, allowances.py reports what attempts came to, for breakers; what may begin without asking for each
    worker.py, asker.py     begins attempts; what it needs of limits
    ends.py, outcomes.py    decides what follows an outcome; writes outcomes
    slots.py, capacity.py   which claim may begin, and how many may come
    surplus.py, hosts.py    when surplus comes back; what is known of each host
    holdings.py             what is held of a shard
    observer.py, alarm.py   who is told what happens to tasks; wakes the timer to the millisecond
    breaker_lines.py        what the log says of breakers

process may import it; it imports delivery, store, task and metrics, and never api.
"""
