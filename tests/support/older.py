"""The service as a version before this one: `python -m tests.support.older worker`. It does not know the option
`method`, and reads records of format 1."""

import re
import sys
import types
from importlib.util import find_spec
from pathlib import Path

NAME = "redis_scheduler.task.options"


def forget_method() -> None:
    """Have the rest of the service import options without `method`."""
    spec = find_spec(NAME)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text()
    source, fields = re.subn(r'\n    method: .*?"""\n', "", source, count=1, flags=re.DOTALL)
    source, formats = re.subn(r"^RECORD_FORMAT = \d+$", "RECORD_FORMAT = 1", source, flags=re.MULTILINE)
    assert (fields, formats) == (1, 1)
    module = sys.modules[NAME] = types.ModuleType(NAME)
    exec(compile(source, spec.origin, "exec"), vars(module))


if __name__ == "__main__":
    forget_method()
    from redis_scheduler.cli import main

    sys.exit(main(sys.argv[1:]))
