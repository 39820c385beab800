"""What deliveries show of who sends them: an Authorization, and secrets that tasks name in their headers.

A task says `${secret:shop}`; the value stands with the workers alone, and is put in when a request is made. So no
record, list, export or log has it.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from redis_scheduler.delivery.signature import Signatures
from redis_scheduler.task.header import SECRET
from redis_scheduler.task.webhook import parts_of

SECRETS_MOST = 1_000

SECRET_LENGTH = 4_096
"""Characters of the longest secret."""


_PARTS = re.compile(r"[^/?&=]{8,}")
"""Parts of a URL's target that may be a secret."""


class SecretMissing(Exception):
    """No request can be made. The text names a secret, and never shows one."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that tasks may name. `hosts`: where alone it may be sent, as names, or `*.` and what names end with;
    empty: anywhere."""

    value: str = field(repr=False)
    hosts: tuple[str, ...] = ()

    def may_go_to(self, host: str) -> bool:
        """Whether a request to this host, in lower case, may carry it."""
        name = host.removesuffix(".")
        return not self.hosts or any(
            name == one or (one.startswith("*.") and name.endswith(one[1:])) for one in self.hosts
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the requests of a worker show. `authorization`: the value of the header, "" for none."""

    authorization: str = field(default="", repr=False)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    signatures: Signatures | None = None
    alert_webhook: str = field(default="", repr=False)
    """ALERT_WEBHOOK, which alerts go to; "" where it is not set."""
    stand_in: str = field(default="", repr=False)
    """What tasks of tokens with rights show in place of `authorization`; "" for the same."""

    def with_secrets(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers with the values of the secrets that they name. Raises SecretMissing."""
        return {name: SECRET.sub(lambda found: self.secret(found[1]).value, value) for name, value in headers.items()}

    def secret(self, name: str) -> Secret:
        """Return the secret of a name. Raises SecretMissing."""
        if name not in self.secrets:
            raise SecretMissing(f"the secret {name} is not set")
        return self.secrets[name]

    def way_of_alerts(self) -> tuple[str, str]:
        """Return origin and target of ALERT_WEBHOOK. Raises SecretMissing."""
        if not self.alert_webhook:
            raise SecretMissing("ALERT_WEBHOOK is not set for this worker")
        return parts_of(self.alert_webhook)

    def shown_by_alerts(self) -> tuple[str, ...]:
        """Return what the request of an alert shows beside its headers: its target, and the longer parts of that, since
        a receiver may send them back."""
        target = parts_of(self.alert_webhook)[1] if self.alert_webhook else ""
        return tuple(part for part in (target, *_PARTS.findall(target)) if len(part) > 1)

    def shown_in(self, headers: Mapping[str, str]) -> tuple[str, ...]:
        """Return what a request with a task's headers shows, and nobody else may read: a receiver can send it back.

        Of a value with a scheme, such as `Bearer …`, it is the last word.
        """
        named = {name for value in headers.values() for name in SECRET.findall(value)} & self.secrets.keys()
        values = [self.authorization, self.stand_in, *(self.secrets[name].value for name in sorted(named))]
        return tuple(last for value in values if (last := value.rpartition(" ")[2]))


def derived_token(token: str) -> str:
    """Return what deliveries carry in place of the API's token: made of it, it tells nothing of it, and the API refuses
    it. Of two tokens the first counts."""
    digest = hmac.digest(token.partition(" ")[0].encode(), b"redis-scheduler delivery", "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
