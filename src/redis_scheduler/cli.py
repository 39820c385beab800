"""The command line: options, roles, start. A wrong setting and a start that fails are told in one line each."""

import argparse
import dataclasses
import gc
import math
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from redis_scheduler import __version__
from redis_scheduler.errors import OutputFailed, SchedulerError, SettingsError
from redis_scheduler.loading import load
from redis_scheduler.process import streams
from redis_scheduler.process.interruption import run_command
from redis_scheduler.process.token_options import TOKEN_ARGUMENTS, add_token
from redis_scheduler.settings import ALL, API, WORKER, Settings
from redis_scheduler.task.timing import TEN_YEARS_S

EXIT_SETTINGS = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations, and says in one line what is wrong."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        self.exit(EXIT_SETTINGS, f"redis-scheduler: {message}; see redis-scheduler --help\n")


def _options(*names: str) -> _Parser:
    """Return a parser of the named settings, or of all."""
    # An option that is not given stays unset: the parser of a role must not overwrite what stood before the role.
    options = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = options.add_argument_group("options, each with its variable and default")
    for setting in dataclasses.fields(Settings):
        if names and setting.name not in names:
            continue
        about = setting.metadata
        help_text = f"{about['help']} [{about['variable']}; default {about['default']}]"
        if not about["is_public"]:
            title = f"{about['variable']}, which is no option: a command line is public"
            options.add_argument_group(title, help_text)
            continue
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            dest=setting.name,
            metavar=about["variable"],
            help=help_text.replace("%", "%%"),
        )
    return options


def _parser() -> _Parser:
    options = _options()
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
    doctor = roles.add_parser(
        "doctor",
        help="check that every task stands in its place and is accounted for; --repair puts right what is wrong",
        description="Checks all that Redis holds of the service: each task stands in one place, nothing is left of "
        "tasks that are gone, and the ledger balances. Prints each fault with what it means. May be run at any time, "
        "also while the service runs; where the private Redis of DATA_DIR does not run, it runs for as long as the check.",
        epilog="Exit code: 0 nothing is wrong, or all of it was repaired and a second look found nothing; 1 faults "
        "were found or are left, or Redis cannot be reached; 2 a setting is wrong.",
        parents=[_options("redis_url", "data_dir", "namespace")],
    )
    doctor.add_argument("--repair", action="store_true", help="put right what is wrong")
    _add_moving(roles)
    _add_pausing(roles)
    _add_rekey(roles)
    add_token(roles, _options("redis_url", "data_dir", "namespace"))
    return parser


def _add_moving(roles: Any) -> None:
    """Add the commands that move tasks between deployments."""
    about_code = (
        "Exit code: 0 all was done; 1 something could not be, or Redis cannot be reached; 2 a setting is wrong."
    )
    options = _options("redis_url", "data_dir", "namespace")
    export = roles.add_parser(
        "export",
        help="write every task to a file, one a line",
        description="Writes every task as a line of JSON, in bounded steps; may be run while the service runs. A task "
        "that is there all the while is written, one that comes or goes meanwhile may be. See docs/howto/moving.md.",
        epilog=about_code,
        parents=[options],
    )
    export.add_argument("file", nargs="?", default="-", help="what to write; - is standard output, and the default")
    imported = roles.add_parser(
        "import",
        help="put the tasks of an export back",
        description="Puts the tasks of an export back under their keys, with due times, attempts and dead letters. It "
        "may be run again: keys that are there are skipped. See docs/howto/moving.md.",
        epilog=about_code,
        parents=[options],
    )
    imported.add_argument("file", nargs="?", default="-", help="what to read; - is standard input, and the default")
    imported.add_argument("--shift", type=_shift, default=0.0, metavar="SECONDS", help="move all due times by so much")
    imported.add_argument("--replace", action="store_true", help="replace tasks whose keys are there")
    imported.add_argument("--dry-run", action="store_true", help="only say what would be done, and which lines are bad")


def _add_pausing(roles: Any) -> None:
    """Add the commands that stop a deployment's deliveries, and let them go on."""
    options = _options("redis_url", "data_dir", "namespace")
    pause = roles.add_parser(
        "pause-all",
        help="let nothing be delivered until resume-all; tasks are taken all the same",
        description="Stops all deliveries of a deployment: nothing is promoted or claimed any more. Waits for the "
        "attempts that are under way, a minute at most, and says which worker has some left.",
        epilog="Exit code: 0 no attempt is under way any more; 1 some are, a worker is too old to see the pause, or "
        "Redis cannot be reached.",
        parents=[options],
    )
    pause.add_argument("--force", action="store_true", help="pause the others while a worker is too old to see it")
    about = "Lets the deliveries of a deployment go on; what came due meanwhile is delivered at once."
    roles.add_parser("resume-all", help="let deliveries go on after pause-all", description=about, parents=[options])


def _add_rekey(roles: Any) -> None:
    """Add the command that seals what stands in Redis with another key."""
    rekey = roles.add_parser(
        "rekey",
        help="seal what stands in Redis with the first key of DATA_KEY, so that older ones may go",
        description="Seals with the first key of DATA_KEY what another one of them has sealed, or none, in bounded steps; "
        "then it looks whether anything needs another key still. Run it once all processes have the new key first. May "
        "be run beside them, be cut off, and run again. See docs/howto/encryption.md.",
        epilog="Exit code: 0 no other key is needed; 1 something needs one, or is still to be sealed, or Redis is full or "
        "cannot be reached; 2 a setting is wrong.",
        parents=[_options("redis_url", "data_dir", "namespace", "data_key", "data_plain", "memory_reserve")],
    )
    rekey.add_argument("--dry-run", action="store_true", help="only count what would be sealed")


def _shift(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not abs(seconds) <= TEN_YEARS_S:
        rule = f"must be a number of seconds from -{TEN_YEARS_S} to {TEN_YEARS_S} (ten years)"
        raise argparse.ArgumentTypeError(f"{rule}, got {text[:100]!r}")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    streams.open_closed()
    streams.never_wait("stderr")
    streams.must_be_written()
    try:
        try:
            return _main(arguments)
        finally:
            sys.stdout.flush()
    except OutputFailed as error:
        print(f"redis-scheduler: {error}", file=sys.stderr)  # noqa: T201  # the command's output
        return EXIT_FAILED
    except KeyboardInterrupt:  # before signals are listened for
        return EXIT_INTERRUPTED


_NO_OPTION = (
    "--api-auth: refused, since every user of this machine can read it in the list of processes; "
    "set API_AUTH, or API_AUTH_FILE to a file that holds it"
)


def _main(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    given = sys.argv[1:] if arguments is None else arguments
    # Before they are parsed: the parser's line about an unknown option would repeat the token.
    if any(argument.partition("=")[0].replace("_", "-") == "--api-auth" for argument in given):
        parser.exit(EXIT_SETTINGS, f"redis-scheduler: {_NO_OPTION}\n")
    options = vars(parser.parse_args(given))
    role = options.pop("role") or ALL
    if role == "health":
        from redis_scheduler.process.health import is_healthy

        return 0 if is_healthy() else EXIT_FAILED
    own = {name: options.pop(name) for name in _OWN_ARGUMENTS if name in options}
    try:
        if role in _COMMANDS:
            return run_command(_COMMANDS[role](load(ALL, options), own))
        return _run(role, load(role, options))
    except SettingsError as error:
        for problem in error.problems:
            print(f"redis-scheduler: {problem}", file=sys.stderr)  # noqa: T201  # the command's output
        return EXIT_SETTINGS
    except SchedulerError as error:
        print(f"redis-scheduler: {error}", file=sys.stderr)  # noqa: T201  # the command's output
        return EXIT_FAILED


async def _examine(settings: Settings, own: dict[str, Any]) -> bool:
    from redis_scheduler.process.doctor import examine

    return await examine(settings, own["repair"])


async def _export(settings: Settings, own: dict[str, Any]) -> bool:
    from redis_scheduler.process.moving import export_tasks

    return await export_tasks(settings, own["file"])


async def _import(settings: Settings, own: dict[str, Any]) -> bool:
    from redis_scheduler.process.moving import import_tasks

    return await import_tasks(settings, own["file"], own["shift"], own["replace"], own["dry_run"])


async def _pause_all(settings: Settings, own: dict[str, Any]) -> bool:
    from redis_scheduler.process.pausing import pause_all

    return await pause_all(settings, own["force"])


async def _resume_all(settings: Settings, _own: dict[str, Any]) -> bool:
    from redis_scheduler.process.pausing import resume_all

    return await resume_all(settings)


async def _rekey(settings: Settings, own: dict[str, Any]) -> bool:
    from redis_scheduler.process.rekeying import rekey

    return await rekey(settings, own["dry_run"])


async def _manage_tokens(settings: Settings, own: dict[str, Any]) -> bool:
    from redis_scheduler.process.tokens import manage_tokens

    return await manage_tokens(settings, own)


_COMMANDS = {
    "doctor": _examine,
    "export": _export,
    "import": _import,
    "pause-all": _pause_all,
    "rekey": _rekey,
    "resume-all": _resume_all,
    "token": _manage_tokens,
}
"""The commands: each returns whether all is well."""

_OWN_ARGUMENTS = ("repair", "file", "shift", "replace", "dry_run", "force", *TOKEN_ARGUMENTS)
"""What is given to a command and is no setting."""


def _run(role: str, settings: Settings) -> int:
    gc.disable()  # imports leave no garbage, and collections during them took a tenth of a start's CPU time
    from redis_scheduler import logs
    from redis_scheduler.process.process import run_process
    from redis_scheduler.process.service import Service
    from redis_scheduler.process.start import started
    from redis_scheduler.process.supervisor import Supervisor

    gc.enable()
    streams.never_wait("stdout")
    logs.configure(settings.log_level, settings.log_format)

    async def run() -> None:
        async with started(role, settings) as process:
            if not process.stop.is_set():
                await (Service(process) if settings.processes == 1 else Supervisor(process)).run()

    return run_process(run())
