"""Find the classes of a package by name, so that adding one is adding a file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from types import ModuleType


def import_all(package: str) -> list[ModuleType]:
    """Import every module of a package, so that its classes are known by their short names."""
    root = importlib.import_module(package)
    names = [info.name for info in pkgutil.iter_modules(root.__path__)]
    return [importlib.import_module(f"{package}.{name}") for name in names]


@cache
def discover(package: str, base: type) -> dict[str, type]:
    """Find every concrete subclass of `base` in the modules of `package`, by its `kind`.

    Raises ValueError when two classes claim one name.
    """
    found: dict[str, type] = {}
    for module in import_all(package):
        for cls in vars(module).values():
            if not (
                inspect.isclass(cls) and issubclass(cls, base) and cls.__module__ == module.__name__
            ):
                continue
            kind = vars(cls).get("kind")
            if kind is None or inspect.isabstract(cls):
                continue
            if kind in found:
                raise ValueError(
                    f"{package}: both {found[kind].__qualname__} and {cls.__qualname__} are called "
                    f"{kind!r}"
                )
            found[kind] = cls
    return dict(sorted(found.items()))
