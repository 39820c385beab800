"""The API token of a data folder, made at the first start; and what receivers need, as a command shows it."""

import fcntl
import os
import secrets
import sys
from pathlib import Path

from redis_scheduler.delivery.credentials import derived_token
from redis_scheduler.errors import StartError
from redis_scheduler.process import private
from redis_scheduler.process.private import explained
from redis_scheduler.setting import SECRET_BYTES
from redis_scheduler.settings import Settings


def kept_token(data_dir: Path) -> str:
    """Return the API token that the folder keeps; where there is none, make one of 192 random bits and keep it.

    An empty file gets a new token, too: a crash between its creation and the write leaves one. Raises StartError where
    the file cannot be read, or holds what no Authorization header can carry.
    """
    path = data_dir / "token"
    with explained(data_dir):
        private.make_folder(data_dir)
        with os.fdopen(private.open_file(path, os.O_RDWR), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two first starts at once agree on one token
            token = file.read(SECRET_BYTES + 1)
            if len(token) > SECRET_BYTES:
                raise StartError(f"{path} is larger than {SECRET_BYTES} bytes: mend it, or delete it for a new token")
            token = token.strip()
            if not token:
                token = secrets.token_urlsafe(24).encode()
                file.write(token + b"\n")
                file.flush()
                os.fsync(file.fileno())
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise StartError(f"{path} must hold one token of visible ASCII characters: mend it, or delete it for a new one")
    return token.decode()


def show_delivery_token(settings: Settings) -> bool:
    """Print what deliveries carry with DELIVERY_AUTH=derived; say so if they carry something else now. Raises
    StartError."""
    if settings.api_auth is None and not (settings.data_dir / "token").exists():
        raise StartError(
            f"API_AUTH is not set, and {settings.data_dir / 'token'} does not exist: start the service first"
        )
    print(derived_token(settings.api_auth or kept_token(settings.data_dir)))  # noqa: T201  # the command's output
    if settings.carried != "derived":
        line = f"redis-scheduler: DELIVERY_AUTH is {settings.carried}: deliveries carry this only with derived"
        print(line, file=sys.stderr)  # noqa: T201  # the command's output
    return True


def show_public_keys(settings: Settings) -> bool:
    """Print the public keys by which receivers check signatures. Raises StartError if nothing signs by such a key, and
    SettingsError."""
    from redis_scheduler.process.credentials import signatures_of

    signatures = signatures_of(settings)
    keys = list(signatures.public_keys()) if signatures else []
    if not keys:
        raise StartError(
            "Neither WEBHOOK_SECRET nor WEBHOOK_SECRETS_FILE has a whsk_ key; a whsec_ secret has no public one"
        )
    print(*keys, sep="\n")  # noqa: T201  # the command's output
    return True
