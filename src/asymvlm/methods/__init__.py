"""Pruning methods: scores, or choices, of vision tokens. One method, one file, one class.

A new file here is found by its name. Imports backbone, checkpoint, cli, errors, registry, scorers,
selectors, storage and typing.
"""

from __future__ import annotations

import sys
from types import ModuleType

from .base import Method, Tokens
from .learned import Learned

__all__ = ["Learned", "Method", "Tokens", "methods"]


def methods() -> dict[str, type[Method]]:
    """List all built-in methods by name."""
    from ..registry import discover

    return discover(__name__, Method)


class _CallablePackage(ModuleType):
    """Makes the package callable, as `asymvlm.methods()` is the function of the same name."""

    def __call__(self) -> dict[str, type[Method]]:
        return methods()


sys.modules[__name__].__class__ = _CallablePackage
