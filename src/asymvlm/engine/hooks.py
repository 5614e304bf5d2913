"""Hooks on a module and methods replaced on an object, taken away when their context closes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn


@contextmanager
def hooked(
    module: nn.Module,
    before: Callable[..., Any] | None = None,
    after: Callable[..., Any] | None = None,
) -> Iterator[None]:
    """Call `before(module, args, kwargs)` and `after(module, args, kwargs, output)` while open.

    What they return, where not None, replaces the arguments or the output.
    """
    with ExitStack() as stack:
        if before is not None:
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
            stack.callback(handle.remove)
        if after is not None:
            # First of all, so that hooks of the caller's see what it gives.
            handle = module.register_forward_hook(after, prepend=True, with_kwargs=True)
            stack.callback(handle.remove)
        yield


class _Wrapper:
    """A method put around another one on an object; copies of the object have the other one."""

    def __init__(self, before: Callable[..., Any], around: Callable[..., Any]) -> None:
        functools.update_wrapper(self, before)
        self.before, self.around = before, around

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.around(self.before, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.before, memo)


@contextmanager
def wrapped(instance: Any, name: str, around: Callable[..., Any]) -> Iterator[None]:
    """Have `instance.name(...)` call `around(the method before, ...)` while open.

    Unlike a hook on a forward pass it sees what all hooks made of the arguments, gives its result
    to all of them, and ends whatever is raised.
    """
    own = vars(instance).get(name)  # one that somebody put on this very object
    wrapper = _Wrapper(getattr(instance, name), around)
    setattr(instance, name, wrapper)
    try:
        yield
    finally:
        # Another one that was put around ours meanwhile stays; ours then passes calls on.
        if vars(instance).get(name) is wrapper:
            delattr(instance, name)
            if own is not None:
                setattr(instance, name, own)
