"""What there is to say of attempts that fail: most of them, those of some hosts, or a few; and what to look at."""

from redis_scheduler.ui.readings import NAMED_MOST, UNREADABLE_HOST, Problem, Readings
from redis_scheduler.ui.rendering import count

FAILING_SHARE, FAILING_SOME, FAILING_LEAST = 0.5, 0.01, 10
"""Of so many attempts or more that failed, a larger share says that most fail, or that some do."""

KINDS = {
    "lookup": (
        "names of receivers cannot be looked up",
        "See whether the name servers of the workers answer (/etc/resolv.conf)",
    ),
    "connect": ("receivers take no connection", "See whether they run, and whether the workers reach them"),
    "timeout": ("receivers do not answer in time", "See what holds them up, or give tasks a longer timeout"),
    "tls": ("TLS with receivers fails", "See their certificates, and EGRESS_CA_FILE"),
    "egress": ("EGRESS forbids where they go", "See EGRESS, EGRESS_ALLOW and EGRESS_DENY"),
    "proxy": ("the proxy refuses", "See EGRESS_PROXY"),
    "answer": ("what receivers answer is no HTTP", "See what listens there"),
    "request": ("their requests cannot be made", "See the secrets that their headers name"),
}
"""What a kind of failure is (outcome.py), and what to look at where several hosts fail so."""

OF_A_HOST = {
    "lookup": "See whether the name is right, and the name servers of the workers know it (/etc/resolv.conf)",
    "connect": "See whether it runs, and whether the workers reach it",
    "timeout": "See what holds it up, or give its tasks a longer timeout",
    "tls": "See its certificate, and EGRESS_CA_FILE",
}
"""What to look at where a single host fails so, and others are well; or, of names, some hosts."""

NO_SUCH_NAME = "not found"
"""Of an error of a look-up: name servers answered that there is no such name."""

ANSWERS = (
    (
        ("401", "403", "407"),
        "See whether what deliveries show is still taken there (DELIVERY_AUTH, headers of the tasks)",
    ),
    (("404", "405", "410"), "See whether the path of the webhook is still served there"),
    (("429",), "Set a limit for the host in Hosts"),
    ((), "See what answers so there: the receiver, or a proxy before it"),
)
"""And for statuses, the last for all others."""


def remedy_of(error: str, hosts: int = 1) -> str:
    """Return what to look at where attempts to so many hosts fail so: a kind of failure, or `answered` and a status."""
    if error in KINDS:
        told = KINDS[error][1]
        return OF_A_HOST.get(error, told) if hosts == 1 or error == "lookup" else told
    status = error.removeprefix("answered ")
    return next(told for codes, told in ANSWERS if not codes or status in codes)


def failing(at: Readings) -> list[Problem]:
    """Return what there is to say of attempts that failed lately."""
    failed = {name.partition(":")[2]: number for name, number in at.recent.items() if name.startswith("failed:")}
    total, delivered = sum(failed.values()), at.recent.get("delivered", 0)
    if total < FAILING_LEAST or total < FAILING_SHARE * (total + delivered):
        is_little = total < FAILING_LEAST or total < FAILING_SOME * (total + delivered)
        return _failing_hosts(at) or ([] if is_little else [_failing_some(at, total, delivered)])
    kind = max(failed, key=lambda name: failed[name])
    host, error = at.failing[0][:2] if at.failing else at.most_failed
    what, remedy = KINDS.get(kind) or ("the answer is", remedy_of(error))
    if kind == "lookup" and NO_SUCH_NAME in error:
        remedy = OF_A_HOST[kind]
    told = f"({kind})" if kind in KINDS else kind
    text = f"{total / (total + delivered):.0%} of attempts fail in the last minutes, most because {what} {told}."
    where = f"Most at {host or UNREADABLE_HOST}: {error}. " if error else ""
    return [Problem(text, f"{where}{remedy}; tasks are retried while they have retries left.", "hosts")]


def _failing_some(at: Readings, failed: int, delivered: int) -> Problem:
    host, error = at.most_failed
    where = f", most at {host}, last by: {error}" if host else ""
    text = f"{failed / (failed + delivered):.0%} of attempts fail in the last minutes{where}."
    remedy = f"{remedy_of(error)}, and which of its tasks fail" if host else "See which tasks wait for a retry"
    return Problem(text, f"{remedy}; they are retried while they have retries left.", "tasks?state=waiting")


def _failing_hosts(at: Readings) -> list[Problem]:
    by_error: dict[str, list[tuple[str, float]]] = {}
    in_full = {host: error for host, error, _ in reversed(at.failing)}
    for host, share, error in at.failing_hosts:
        by_error.setdefault(error, []).append((host, share))
    found = []
    for error, hosts in by_error.items():
        names, whose = ", ".join(host for host, _ in hosts[:NAMED_MOST]), "its" if len(hosts) == 1 else "their"
        more = f" and {count(len(hosts) - NAMED_MOST)} more" if len(hosts) > NAMED_MOST else ""
        of_all = f"{hosts[0][1]:.0%}" if len(hosts) == 1 else "most"
        text = f"{names}{more} fail{'s' * (len(hosts) == 1)}: {of_all} of {whose} attempts in the last minutes"
        told = in_full.get(hosts[0][0], "") if error in KINDS and len(hosts) == 1 else ""
        why = f", last by: {told or error}" if error else ""
        remedy = (
            f"{remedy_of(error, len(hosts))}; {whose} tasks are retried while they have retries left, and others go on."
        )
        found.append(Problem(f"{text}{why}.", remedy, "hosts"))
    return found[:NAMED_MOST]
