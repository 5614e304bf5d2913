"""Forward hooks on a module, removed when their context closes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn


@contextmanager
def hooked(
    module: nn.Module,
    before: Callable[..., Any] | None = None,
    after: Callable[..., Any] | None = None,
    always: bool = False,
) -> Iterator[None]:
    """Call `before(module, args, kwargs)` and `after(module, args, kwargs, output)` while open.

    What they return, where not None, replaces the arguments or the output. With `always` the second
    is called for forward passes that raise, too; their output is None.
    """
    with ExitStack() as stack:
        if before is not None:
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
            stack.callback(handle.remove)
        if after is not None:
            # First of all, so that hooks of the caller's see what it gives.
            handle = module.register_forward_hook(
                after, prepend=True, with_kwargs=True, always_call=always
            )
            stack.callback(handle.remove)
        yield
