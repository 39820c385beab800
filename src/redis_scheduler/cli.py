"""The command line: options, roles, start. Bad settings and a start that fails are one clear line each."""

import argparse
import asyncio
import dataclasses
import logging
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from redis_scheduler import __version__
from redis_scheduler.errors import SchedulerError, SettingsError
from redis_scheduler.settings import ALL, API, WORKER, Settings, load

EXIT_SETTINGS = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

logger = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    """A parser that knows no abbreviations, and says what is wrong in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        self.exit(EXIT_SETTINGS, f"redis-scheduler: {message}; see redis-scheduler --help\n")


def _parser() -> _Parser:
    # What is not given is not set, so a role's defaults cannot overwrite what stood before it.
    options = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("options, each with its variable and default")
    for setting in dataclasses.fields(Settings):
        about = setting.metadata
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            dest=setting.name,
            metavar=about["variable"],
            help=f"{about['help']} [{about['variable']}; default {about['default']}]".replace("%", "%%"),
        )
    parser = _Parser(
        prog="redis-scheduler",
        description="Calls a webhook after a delay: exactly when asked, through crashes, restarts and outages.",
        epilog="Without a role: API and worker in one process, on a private Redis unless REDIS_URL names one.",
        parents=[options],
    )
    parser.add_argument("--version", action="version", version=f"redis-scheduler {__version__}")
    roles = parser.add_subparsers(dest="role", metavar="[role]", title="roles")
    for name, summary in (
        (API, "only the REST API; any number of them on one Redis"),
        (WORKER, "only deliveries, timer and reclaimer; any number of them on one Redis"),
    ):
        roles.add_parser(name, help=summary, description=summary, parents=[options])
    roles.add_parser("health", help="exit 0 if a process of this machine or container runs well, else 1")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # before the service listens for signals
        return EXIT_INTERRUPTED


def _main(arguments: Sequence[str] | None) -> int:
    options = vars(_parser().parse_args(arguments))
    role = options.pop("role") or ALL
    if role == "health":
        from redis_scheduler.health import is_healthy

        return 0 if is_healthy() else EXIT_FAILED
    try:
        settings = load(role, options)
    except SettingsError as error:
        for problem in error.problems:
            print(f"redis-scheduler: {problem}", file=sys.stderr)  # noqa: T201
        return EXIT_SETTINGS
    return _run(role, settings)


def _run(role: str, settings: Settings) -> int:
    import uvloop

    from redis_scheduler import logs
    from redis_scheduler.lifecycle import Service

    logs.configure(settings.log_level, settings.log_format)

    async def run() -> None:
        await Service(role, settings).run()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    except SchedulerError as error:
        print(f"redis-scheduler: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    except BaseExceptionGroup as errors:
        logger.critical("died", exc_info=errors)
        return EXIT_FAILED
    return 0
