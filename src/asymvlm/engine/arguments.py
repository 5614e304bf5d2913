"""Arguments of a function by name, whatever way they were given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import Any


def by_name(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    behind: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Name the arguments of a call of `function`.

    What only its `*args` takes is named as by `behind`, the function that it stands for.
    """
    if not args:
        return dict(kwargs)
    parameters = list(inspect.signature(function).parameters.values())
    if behind is not None and any(item.kind is Parameter.VAR_POSITIONAL for item in parameters):
        return by_name(behind, args, kwargs)
    return dict(zip((item.name for item in parameters), args, strict=False)) | dict(kwargs)


def check_taken(name: str, function: Callable[..., Any], arguments: Iterable[str]) -> None:
    """Refuse a function that does not take all of `arguments`; it is called `name` in messages."""
    parameters = inspect.signature(function).parameters
    if any(item.kind is Parameter.VAR_KEYWORD for item in parameters.values()):
        return
    missing = [item for item in arguments if item not in parameters]
    if missing:
        raise ValueError(
            f"{name}: this model's own {name} takes no {', '.join(missing)}, which pruning hands "
            "along; give it **kwargs and hand them on"
        )
