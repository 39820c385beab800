"""The guard: what do signatures, the egress guard, tokens with rights and DATA_KEY add to a delivery, or a request?

Each is timed in this process, without the network's part, in turn with the same without it. What the egress guard adds
is counted besides: how often it is asked while deliveries go over kept connections.
"""

import base64
import sys
import time
import timeit
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.types import Message, Receive, Scope, Send

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it also runs as a file

from benchmarks import harness, report
from redis_scheduler.api.auth import Gate, Refusals
from redis_scheduler.api.callers import Callers
from redis_scheduler.delivery.attempt import Deliverer
from redis_scheduler.delivery.credentials import Credentials
from redis_scheduler.delivery.egress import Egress, rules
from redis_scheduler.delivery.request import RequestBuilder
from redis_scheduler.delivery.signature import Signatures, signers
from redis_scheduler.store.client import RedisClient
from redis_scheduler.store.tokens import Tokens
from redis_scheduler.store.vault import Vault
from redis_scheduler.task.claim import Claim
from redis_scheduler.task.record import read_record, record_tail
from tests.support.names import KEYS
from tests.support.raw_receiver import claim_of
from tests.support.tokens import make_token
from tests.support.waiting import wait_until

SIGNATURE_MARK_US, EGRESS_MARK_US, TOKEN_MARK_US, SEAL_MARK_US = 6.0, 1.0, 1.0, 8.0
BODY = b"x" * 1024
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
KEY = f"whsk_{base64.b64encode(bytes(32)).decode()}"
REDIS_TIMEOUT_S = 5.0
ROUND_CALLS = 200
"""Of one kind at a time: some 2 ms, which others on the machine often leave whole; a token stays known through them."""


class Counted(Egress):
    """An egress guard that counts how often it is asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked = 0

    def refusal(self, host: str, address: str, port: int) -> str:
        """As that of the guard."""
        self.asked += 1
        return super().refusal(host, address, port)


def least(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the µs of each call in the best of its rounds; the calls take turns."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            found[name] = min(found[name], timeit.timeit(call, number=ROUND_CALLS) / ROUND_CALLS * 1e6)
    return found


def added(found: dict[str, float], name: str, without: str) -> float:
    """Return the µs that a kind takes more than another."""
    return round(found[name] - found[without], 2)


def signatures(rounds: int) -> dict[str, float]:
    """Return the µs that signatures add to the making of a request whose body is 1 KiB."""
    kinds = {"none": "", "one secret": SECRET, "two secrets": f"{SECRET} {SECRET}", "ed25519": KEY}
    claim = claim_of("http://127.0.0.1:9000/", BODY)

    def build(secrets: str) -> Callable[[], object]:
        shown = Credentials("token", {}, Signatures(signers(secrets)) if secrets else None)
        builder = RequestBuilder("token", "agent", "instance", 5, shown)
        return lambda: builder.build(claim)

    found = least({kind: build(secrets) for kind, secrets in kinds.items()}, rounds)
    return {kind: added(found, kind, "none") for kind in kinds if kind != "none"}


def seals(rounds: int) -> dict[str, float]:
    """Return the µs that it takes to seal the record of a task whose data has 1 KiB, and that opening it, by another
    process, adds to reading it."""
    key, tail = "k" * 22, record_tail("http://127.0.0.1:9000/", 60, None, b'"%b"' % BODY)
    writer, reader = Vault([bytes(32)]), Vault([bytes(32)])
    plain, sealed = (b'{"due":1732358400123' + written for written in (tail, writer.seal_tail(key, tail, None)))
    calls: dict[str, Callable[[], object]] = {
        "seal": lambda: writer.seal_tail(key, tail, None),
        "open": lambda: reader.read_record(key, sealed),
        "read": lambda: read_record(plain),
    }
    found = least(calls, rounds)
    return {"seal": round(found["seal"], 2), "open": added(found, "open", "read")}


async def egress(options: Namespace) -> dict[str, float]:
    """Return the µs of one question to the guard, whose verdict it knows; and how often it is asked, for each
    delivery, where connections are kept."""
    guard = Counted(mode="private", deny=rules("10.0.0.0/8"), own_ports=[8080])
    found = least({"question": lambda: guard.refusal("receiver.example", "192.0.2.1", 443)}, options.rounds)
    guard.asked = 0
    async with harness.receiving() as receiver, Deliverer("token", 5, egress=guard) as deliverer:
        claims: list[Claim] = [claim_of(receiver.url)] * options.deliveries
        for claim in claims:
            outcome = await deliverer.attempt(claim)
            assert outcome.error is None, outcome.error
    asked = guard.asked / len(claims)
    return {
        "question_us": round(found["question"], 2),
        "questions_a_delivery": asked,
        "us_a_delivery": round(asked * found["question"], 4),
    }


async def _application(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """What is behind the gate."""


async def _no_body() -> Message:
    raise AssertionError("nothing reads a body")


async def _no_answer(_message: Message) -> None:
    raise AssertionError("nothing is refused")


async def _is_own(_instances: list[bytes]) -> bool:
    return False


async def tokens(redis_url: str, rounds: int) -> dict[str, float]:
    """Return the µs of a look-up of a known token, and what it adds to the check of a request in all."""
    client = RedisClient(redis_url, REDIS_TIMEOUT_S, KEYS)
    try:
        text = (await make_token(client, "schedule", "read")).encode()
        callers = Callers(Tokens(client), 60)

        async def is_noted() -> bool:
            return bool(await client.command("EXISTS", KEYS.token_uses))

        assert await callers.ask(text) is not None
        await wait_until(is_noted, "its use is noted", REDIS_TIMEOUT_S)  # nothing else is to do then
        gate = Gate(_application, ["the-token-of-the-service"], _is_own, Refusals(60), callers)
        kinds = {"the service's own": b"the-token-of-the-service", "with rights": text}
        found = dict.fromkeys(kinds, float("inf"))
        look_up = float("inf")
        for _ in range(rounds):
            for kind, given in kinds.items():
                assert await callers.ask(text) is not None  # known for a second
                headers = [(b"host", b"127.0.0.1"), (b"authorization", given)]
                scope = {"type": "http", "method": "POST", "path": "/schedule", "headers": headers}
                started = time.perf_counter()
                for _ in range(ROUND_CALLS):
                    await gate(dict(scope), _no_body, _no_answer)
                found[kind] = min(found[kind], (time.perf_counter() - started) / ROUND_CALLS * 1e6)
            assert await callers.ask(text) is not None
            look_up = min(look_up, least({"look-up": lambda: callers.known(text)}, 1)["look-up"])
        await client.command("UNLINK", KEYS.tokens, KEYS.token_uses)
    finally:
        await client.aclose()
    return {"look_up_us": round(look_up, 2), "added_us": added(found, "with rights", "the service's own")}


async def measure(options: Namespace, folder: Path) -> dict[str, Any]:
    """Measure the four."""
    async with harness.redis_at(options.redis_url, folder) as redis:
        signing, guarding = signatures(options.rounds), await egress(options)
        looking = await tokens(redis.url, options.rounds)
    sealing = seals(options.rounds)
    figures = {
        f"a signature adds <= {SIGNATURE_MARK_US:g} us to a delivery": (signing["one secret"], SIGNATURE_MARK_US),
        f"the egress guard adds <= {EGRESS_MARK_US:g} us where connections are kept": (
            guarding["us_a_delivery"],
            EGRESS_MARK_US,
        ),
        f"a known token is looked up in <= {TOKEN_MARK_US:g} us": (looking["look_up_us"], TOKEN_MARK_US),
        f"a record of 1 KiB is sealed in <= {SEAL_MARK_US:g} us": (sealing["seal"], SEAL_MARK_US),
        f"a record of 1 KiB is opened in <= {SEAL_MARK_US:g} us": (sealing["open"], SEAL_MARK_US),
    }
    return {
        "signatures_us": signing,
        "egress": guarding,
        "tokens": looking,
        "seals_us": sealing,
        "marks": [report.mark(wanted, found, found <= most) for wanted, (found, most) in figures.items()],
        "versions": report.versions(redis.server),
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    guarding, looking = found["egress"], found["tokens"]
    rows = [(f"signature: {kind}", f"{us:.2f}") for kind, us in found["signatures_us"].items()]
    rows += [
        ("egress guard: a question", f"{guarding['question_us']:.2f}"),
        ("egress guard, connections kept", f"{guarding['us_a_delivery']:.4f}"),
        ("token with rights: look-up", f"{looking['look_up_us']:.2f}"),
        ("token with rights: all it adds", f"{looking['added_us']:.2f}"),
        *((f"DATA_KEY: to {name} 1 KiB", f"{us:.2f}") for name, us in found["seals_us"].items()),
    ]
    print(report.table(("what it adds", "us"), rows))
    print(f"\nguard     {guarding['questions_a_delivery']:g} questions a delivery")


def main() -> None:
    parser = harness.parser(__doc__, "guard")
    parser.add_argument("--rounds", type=harness.positive, default=1_000, help="rounds; the best of each kind counts")
    parser.add_argument("--deliveries", type=harness.positive, default=5_000, help="deliveries, one after another")
    options = parser.parse_args()
    harness.run(options, measure, show, 120)


if __name__ == "__main__":
    main()
