"""The system's own Chromium, which Playwright drives."""

import os
import shutil


def chromium() -> str:
    """Return its path. Raises FileNotFoundError."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise FileNotFoundError("No Chromium: apt-get install chromium, or set CHROMIUM to one")
    return found
