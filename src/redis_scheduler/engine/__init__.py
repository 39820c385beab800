"""The loops that move tasks: what is due is claimed, attempted, and its outcome written. Each loop is `run(stop)`.

In: the entries that Redis gives this process. Out: attempts, and outcomes written to the store. Any number of processes
may run these loops: none is elected, and each is safe to run beside others.

    timer.py, alarm.py      moves what is due into the queue, at its moment
    reclaimer.py            sweeps: retries whose time has come, tasks of lost workers
    intake.py               loads what this process was given, and hands it on once
    holdings.py             what this process holds of the queue, until its outcomes are written
    slots.py, hosts.py      which claim may begin, and which must not wait here
    worker.py, outcomes.py  begins attempts, renews leases, writes outcomes
    observer.py             is told what happens; the log is one

process may import it; it imports delivery, store and task, and never api.
"""
