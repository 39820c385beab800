"""Processes: how one starts, serves its role, stops and is watched; and several under one supervisor.

In: settings, signals. Out: a running role (API, worker or both), its log and its exit code.

    start.py, process.py, signals.py  what a start takes (token, port, Redis); what a process knows of itself; signals
    service.py, imports.py            the parts of a role, put together, and the modules that it imports
    embedded.py, server_binary.py     the private Redis, which server it is, and how much it may use (memory.py)
    token.py, private.py, health.py   the token of a data folder; files of this user alone; health
    streams.py, announcement.py       standard streams that never wait; what a start says
    sealing.py, dashboard.py          the keys of a deployment, and what seals them; the dashboard, at its first use
    alerting.py, supervisor.py        alerts (tracing.py: spans); several processes of a role under one
    hazards.py, credentials.py        what settings allow, though it may do harm; what they let deliveries show
    ways.py, delivering.py            the ways that deliveries take: guard, proxies, TLS; what makes attempts
    command.py, doctor.py             what commands have in common; the command `redis-scheduler doctor`
    pausing.py, rekeying.py           the commands `pause-all` and `resume-all`; the command `rekey`
    tokens.py, token_options.py       the command `token`: tokens with rights
    moving.py, task_line.py           the commands `export` and `import`, and a task as a line of their file
    line_members.py, shifted.py       the members of such a line; the points in time that an import moves

Only cli.py imports this room. It may import every other.
"""
