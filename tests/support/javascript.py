"""Where what receivers in JavaScript use is installed: `make test-javascript`."""

import shutil
from pathlib import Path

JAVASCRIPT = Path(__file__).parents[1] / "javascript"


def has_javascript() -> bool:
    """Whether Node and the packages are here."""
    return (JAVASCRIPT / "node_modules").exists() and shutil.which("node") is not None
