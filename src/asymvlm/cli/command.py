"""Command lines: errors in one line, exit codes, and parameters from configs and flags."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentParser

from ..errors import DataError, disk_error
from .configs import with_configs
from .hints import parameters
from .mistakes import Root, check_filled, explained
from .signals import Stopped, stop_behind, stoppable

USAGE, DATA = 2, 1
USAGE_LINE = "%(prog)s [--config NAME_OR_FILE] [--flag VALUE]; --print_config shows all"
# Of all parsers: errors come to `run_command`, and a misspelt flag is none that begins like it.
PARSER_OPTIONS: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
_NOW_IN_DATA = ("--path", "--root", "--seed", "--questions")


def run_command(
    command: Callable[[list[str]], None],
    arguments: list[str] | None = None,
    owns_process: bool | None = None,
) -> int:
    """Run a command and return its exit code; errors are one line on stderr.

    1 stands for a DataError, even one that a library has wrapped, 2 for other ValueErrors, 143 for
    SIGTERM and 130 for SIGINT. ASYMVLM_TRACEBACK=1 in the environment shows tracebacks of errors
    instead. Without `arguments`, those of the process are taken. `owns_process` says whether the
    process ends with the command; left out, it does where `arguments` are the process's.
    """
    try:
        with stoppable(arguments is None if owns_process is None else owns_process):
            command(sys.argv[1:] if arguments is None else arguments)
    except (Exception, Stopped) as error:
        stop = stop_behind(error)
        if stop is not None:
            print(f"stopped by {stop}: {stop.advice}", file=sys.stderr)
            return stop.exit_code
        cause = error if isinstance(error, ArgumentError) else _cause(error)
        if cause is None or os.environ.get("ASYMVLM_TRACEBACK"):
            raise
        print(f"error: {_one_line(cause)}", file=sys.stderr)
        return DATA if isinstance(cause, DataError) else USAGE
    except SystemExit as stop:  # after --help and --print_config
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def call_from_flags(function: Callable[..., Any], arguments: list[str], command: str) -> None:
    """Call `function` with the parameters that `parameters_of` finds."""
    function(**parameters_of(function, arguments, command))


def parameters_of(
    function: Callable[..., Any],
    arguments: list[str],
    command: str,
    default_config: str | None = None,
    registries: Sequence[Callable[[], Any]] = (),
    words: Sequence[str] = (),
) -> dict[str, Any]:
    """Parse what `function`, or a class, takes: from `--config FILE` and flags.

    `command` is the name under which people call it. `default_config` is read where no other is
    given. `registries` are called first, so that configs can name the classes that they import in
    short. `words` are those that may stand before all flags.
    """
    for registry in registries:
        registry()
    options = {"description": (function.__doc__ or "").splitlines()[0], **PARSER_OPTIONS}
    parser = ArgumentParser(prog=f"asymvlm {command}", usage=USAGE_LINE, **options)
    parser.add_argument("--config", action="config", help="A YAML file with any of these options.")
    if isinstance(function, type):
        parser.add_class_arguments(function)
    else:
        parser.add_function_arguments(function)
    given = _by_new_names(with_configs(arguments, default_config))
    with explained(Root(command, parameters(function), tuple(words)), given):
        parsed = parser.parse_args(given)
    check_filled(parsed.as_dict())
    config = parser.instantiate(parsed)
    config.pop("config", None)
    return {name: getattr(config, name) for name in config.keys()}  # noqa: SIM118 - no dict


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) if isinstance(error, ArgumentError) else str(error)


def _by_new_names(arguments: list[str]) -> list[str]:
    """Rename flags that have moved into `data`."""
    renamed = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in _NOW_IN_DATA:
            print(f"note: {name} is called --data.{name[2:]} now", file=sys.stderr)
            name = f"--data.{name[2:]}"
        renamed.append(name + equals + value)
    return renamed


def _cause(error: BaseException) -> ValueError | None:
    """Find the error to show: parsers and `datasets` wrap a constructor's in their own.

    None for errors that are about something else: defects, to be shown with their traceback.
    """
    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    for item in chain:
        if isinstance(item, DataError):
            return item
    reason = disk_error(error)
    if reason is not None:
        return DataError(reason)
    if not isinstance(error, ValueError):
        return None
    return [item for item in chain if isinstance(item, ValueError)][-1]
