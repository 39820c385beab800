"""Reads what deliveries show, from settings, files and variables: DELIVERY_AUTH, SECRETS_FILE, SECRET_<NAME>,
WEBHOOK_SECRET, WEBHOOK_SECRETS_FILE."""

import os
import re
from collections.abc import Iterator, Mapping

from redis_scheduler.delivery.credentials import SECRET_LENGTH, SECRETS_MOST, Credentials, Secret, derived_token
from redis_scheduler.delivery.signature import Sign, Signatures, signers
from redis_scheduler.errors import SettingsError
from redis_scheduler.host import name_given
from redis_scheduler.setting import read_secret
from redis_scheduler.settings import Settings
from redis_scheduler.task.header import SECRET_NAME, value_problem

PREFIX = "SECRET_"
"""A variable SECRET_SHOP holds the secret `shop`, SECRET_SHOP_FILE names a file that does, SECRET_SHOP_HOSTS says where
it may be sent."""

FILE_BYTES = 1_048_576

_HOST = re.compile(r"(\*\.)?[a-z0-9_.:-]+")


def credentials_of(settings: Settings, token: str, environment: Mapping[str, str] | None = None) -> Credentials:
    """Return what the requests of a worker show; `token` is the API's. Raises SettingsError."""
    found = _Found()
    if settings.secrets_file is not None:
        found.take_file(str(settings.secrets_file))
    for variable, text in (os.environ if environment is None else environment).items():
        if variable.startswith(PREFIX) and text:
            found.take_variable(variable, text)
    secrets, signatures = found.secrets(), signatures_of(settings)
    carried = _carried(settings, token, secrets)
    # Whoever has a token with rights must not get API_AUTH by a task to a receiver of its own.
    stand_in = derived_token(token) if settings.carried == "api" else ""
    return Credentials(carried, secrets, signatures, settings.alert_webhook or "", stand_in)


def _carried(settings: Settings, token: str, secrets: Mapping[str, Secret]) -> str:
    """Return the Authorization that DELIVERY_AUTH says. Raises SettingsError."""
    mode = settings.carried
    if mode in ("none", "derived", "api"):
        return {"none": "", "derived": derived_token(token), "api": token}[mode]
    name = mode.partition(":")[2]
    if name not in secrets:
        raise SettingsError([f"DELIVERY_AUTH={mode}: the secret {name} is not set: set {PREFIX}{name.upper()}"])
    if secrets[name].hosts:
        raise SettingsError([f"DELIVERY_AUTH={mode}: the secret {name} is for some hosts only, this is for all"])
    if not secrets[name].value.isascii():
        raise SettingsError([f"DELIVERY_AUTH={mode}: the secret {name} must be ASCII characters"])
    return secrets[name].value


def signatures_of(settings: Settings) -> Signatures | None:
    """Return what signs deliveries, None where nothing does. Raises SettingsError."""
    of_all = signers(settings.webhook_secret) if settings.webhook_secret else ()
    if settings.webhook_secrets_file is None:
        return Signatures(of_all) if of_all else None
    label, problems = f"WEBHOOK_SECRETS_FILE={settings.webhook_secrets_file}", []
    of: dict[str, dict[str, tuple[Sign, ...]]] = {"host": {}, "type": {}}
    try:
        for number, key, value in _lines(str(settings.webhook_secrets_file)):
            kind, _, whom = key.partition(":")
            try:
                whom = name_given(whom) if kind == "host" else whom
            except ValueError:
                whom = ""
            if kind not in of or not whom or whom in of[kind]:
                problems.append(
                    f"{label}: line {number}: must be host:name=secrets or type:name=secrets, each name once"
                )
                continue
            try:
                of[kind][whom] = signers(value)
            except ValueError as error:
                problems.append(f"{label}: line {number}: {error}")
    except ValueError as error:
        problems.append(f"{label}: {error}")
    if problems:
        raise SettingsError(problems)
    return Signatures(of_all, of["host"], of["type"])


def _lines(path: str) -> Iterator[tuple[int, str, str]]:
    """Yield number, name and value of each line of a file that holds secrets, without comments. Raises ValueError."""
    for number, line in enumerate(map(str.strip, read_secret(path, FILE_BYTES).splitlines()), 1):
        if line and not line.startswith("#"):
            name, _, value = (part.strip() for part in line.partition("="))
            yield number, name, value


class _Found:
    """What files and variables say of secrets: texts by names, each with where it stands; and what is wrong."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[str, str]] = {}
        self.hosts: dict[str, tuple[str, str]] = {}
        self.problems: list[str] = []

    def take(self, name: str, text: str, at: str, of_hosts: bool) -> None:
        """Take a text, unless its name has one."""
        found = self.hosts if of_hosts else self.values
        if name in found:
            self.problems.append(f"{at}: {name} is set twice, here and by {found[name][0]}")
        else:
            found[name] = at, text

    def take_file(self, path: str) -> None:
        """Take the lines of SECRETS_FILE."""
        try:
            lines = list(_lines(path))
        except ValueError as error:
            self.problems.append(f"SECRETS_FILE={path}: {error}")
            return
        for number, key, value in lines:
            at = f"SECRETS_FILE={path}: line {number}"
            name = key.removesuffix(".hosts")
            if not value:
                self.problems.append(f"{at}: must be name=value")
            elif SECRET_NAME.fullmatch(name) is None:
                self.problems.append(f"{at}: the name must be 1 to 64 small letters, digits and _")
            else:
                self.take(name, value, at, of_hosts=name != key)

    def take_variable(self, variable: str, text: str) -> None:
        """Take SECRET_<NAME>, SECRET_<NAME>_FILE or SECRET_<NAME>_HOSTS."""
        key = variable.removeprefix(PREFIX).lower()
        name = key.removesuffix("_file").removesuffix("_hosts")
        if SECRET_NAME.fullmatch(name) is None:
            return  # no task can name it: it is another program's
        at = f"{variable}={text}" if key == f"{name}_file" else variable
        try:
            self.take(name, text if at == variable else read_secret(text), at, of_hosts=key == f"{name}_hosts")
        except ValueError as error:
            self.problems.append(f"{at}: {error}")

    def secrets(self) -> dict[str, Secret]:
        """Return what was found. Raises SettingsError."""
        secrets = {name: self._secret(name, at, value) for name, (at, value) in self.values.items()}
        for name in self.hosts.keys() - secrets.keys():
            self.problems.append(f"{self.hosts[name][0]}: the secret {name} is not set")
        if len(secrets) > SECRETS_MOST:
            self.problems.append(f"SECRETS_FILE: there may be {SECRETS_MOST} secrets, got {len(secrets)}")
        if self.problems:
            raise SettingsError(self.problems)
        return secrets

    def _secret(self, name: str, at: str, value: str) -> Secret:
        problem = f"must be at most {SECRET_LENGTH} characters" if len(value) > SECRET_LENGTH else value_problem(value)
        if problem:
            self.problems.append(f"{at}: {problem}")
        at, text = self.hosts.get(name, ("", ""))
        hosts = tuple(text.lower().split())
        if not all(map(_HOST.fullmatch, hosts)):
            self.problems.append(f"{at}: must be names of hosts, or *. and the end of names, separated by spaces")
        return Secret(value, hosts)
