"""The commit that this code is of, where it runs from asymvlm's own checkout."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path


def own_commit() -> str | None:
    """The commit of asymvlm's own checkout, with "-dirty" where it has changes.

    None for a copy that is installed, or lies in somebody else's repository, whose commits say
    nothing of it.
    """
    here = Path(__file__).resolve()
    try:
        root = Path(_git(here.parent, "rev-parse", "--show-toplevel"))
        _git(here.parent, "ls-files", "--error-unmatch", "--", here.name)
        about = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        place = root.resolve() / "src/asymvlm"
        if about.get("project", {}).get("name") != "asymvlm" or place != here.parents[1]:
            return None
        changes = _git(root, "status", "--porcelain")
        return _git(root, "rev-parse", "HEAD") + ("-dirty" if changes else "")
    except (OSError, ValueError, AttributeError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    # A hook's environment names the repository that it runs for.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
