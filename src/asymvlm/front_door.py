"""What train.py, eval.py and the other commands share: errors in one line, and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from .errors import DataError

USAGE, DATA = 2, 1


def run(command: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Run a command. DataError, even one that a library has wrapped, ends with 1, other ValueErrors with 2, each with one line on stderr.

    ASYMVLM_TRACEBACK=1 in the environment shows the traceback instead.
    """
    try:
        command(arguments)
    except Exception as error:
        cause = _cause(error)
        if cause is None or os.environ.get("ASYMVLM_TRACEBACK"):
            raise
        print(f"error: {cause}", file=sys.stderr)
        return DATA if isinstance(cause, DataError) else USAGE
    except SystemExit as stop:  # argument parsers leave this way
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def call(function: Callable[..., Any], arguments: list[str], default_config: Path | None = None) -> None:
    """Call `function` with what its parameters are given by: `--config FILE`, else `default_config`, and flags on top."""
    if default_config is not None and not any(one == "--config" or one.startswith("--config=") for one in arguments):
        arguments = ["--config", str(default_config), *arguments]
    parser = ArgumentParser(description=(function.__doc__ or "").splitlines()[0])
    parser.add_argument("--config", action="config", help="A YAML file with any of the options below.")
    parser.add_function_arguments(function)
    config = parser.instantiate_classes(parser.parse_args(arguments))
    config.pop("config", None)
    function(**config.as_dict())


def _cause(error: Exception) -> ValueError | None:
    """What was raised first: parsers wrap what a constructor says in what they think of it, and `datasets` what its generator raises.

    None for errors that are about something else: defects, to be shown with their traceback.
    """
    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    data = next((one for one in chain if isinstance(one, DataError)), None)
    if data is not None or not isinstance(error, ValueError):
        return data
    return [one for one in chain if isinstance(one, ValueError)][-1]
