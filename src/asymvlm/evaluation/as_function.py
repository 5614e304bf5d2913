"""Evaluations as functions, with the settings of their classes as parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

Settings = ParamSpec("Settings")
Result = TypeVar("Result", covariant=True)


class _Runs(Protocol[Result]):
    def run(self) -> Result:
        """Evaluate."""


def as_function(name: str, make: Callable[Settings, _Runs[Result]]) -> Callable[Settings, Result]:
    """Give a function that builds an evaluation from its settings and runs it."""

    def run(*args: Settings.args, **named: Settings.kwargs) -> Result:
        return make(*args, **named).run()

    run.__name__ = run.__qualname__ = name
    run.__module__ = make.__module__
    run.__doc__ = make.__doc__
    run.__signature__ = inspect.signature(make)  # type: ignore[attr-defined]
    return run
