"""Begin a command: help and wrong calls at once, and signals heeded while modules are imported."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from .commands import COMMANDS, HELP, Command
from .signals import ended_at_once

_HELP_FLAGS = ("--help", "-h")
_USAGE = 2


def main() -> int:
    """Run the command that the process's arguments name; returns the exit code."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in (*_HELP_FLAGS, "--version"):
        version = importlib.import_module("asymvlm").__version__
        print(version if name == "--version" else f"asymvlm {version}: {HELP}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return _refuse(f"{name!r} is no command; those are {', '.join(COMMANDS)}{hint}")
    return enter(name, rest)


def enter(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command by its name, on the process's arguments if none are given.

    Its module is imported here, which takes seconds: behind what needs no module, and with SIGTERM
    and SIGINT heeded from the start.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = COMMANDS[name]
    if any(flag in given for flag in _HELP_FLAGS):
        print(f"usage: asymvlm {name} {command.help}")
        return 0
    wrong = _wrong(command, given)
    if wrong is not None:
        return _refuse(f"{name}: {wrong}; usage: asymvlm {name} {command.usage}")
    given = ["--help" if argument == "--help_all" else argument for argument in given]
    with ended_at_once():
        run = importlib.import_module(command.module).main
        return run(given) if command.is_light else run(given, owns_process=True)


def _wrong(command: Command, given: Sequence[str]) -> str | None:
    """Say what is wrong with the arguments of a command that takes no flags; None for others."""
    if command.takes_flags:
        return None
    for argument in given:
        if argument.startswith("-"):
            return f"there is no option {argument}"
        if not argument:
            return "an empty name is given"
    least, most = command.counts
    if not least <= len(given) <= most:
        numbers = " or ".join(map(str, range(least, most + 1)))
        return f"{len(given)} arguments are given instead of {numbers}"
    return None


def _refuse(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return _USAGE
