"""Type hints of settings: the classes and parameters that they allow, and what they ask for."""

from __future__ import annotations

import collections.abc
import importlib
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from jsonargparse import ArgumentParser

# The parsers' own: it knows what `**kwargs` are passed on to.
from jsonargparse._parameter_resolvers import get_signature_parameters

_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}
_WORDS |= {str: "text", type(None): "null", list: "a list", tuple: "a list", dict: "settings"}
_NO_OBJECTS = ("builtins", "pathlib", "datetime", "typing")


class Parameter(NamedTuple):
    """The type hint of a setting, and whether it has to be given."""

    hint: Any
    is_required: bool


class Maker(NamedTuple):
    """A class whose objects a setting holds.

    Args:
        base: The class, or one that subclasses may be chosen of.
        skipped: How many of its first parameters the caller gives.
    """

    base: type
    skipped: int = 0


def parameters(function: Callable[..., Any], skipped: int = 0) -> dict[str, Parameter]:
    """List what a class or function takes."""
    return {
        each.name: Parameter(each.annotation, each.default is inspect.Parameter.empty)
        for each in get_signature_parameters(function)[skipped:]
    }


def members(hint: Any) -> list[Any]:
    """List the alternatives of a hint."""
    origin = get_origin(hint)
    if origin is Annotated:
        return members(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return [inner for each in get_args(hint) for inner in members(each)]
    return [hint]


def maker_of(hint: Any) -> Maker | None:
    """Find the class of which a setting is an object; None for plain values."""
    if get_origin(hint) is collections.abc.Callable and get_args(hint):
        given, result = get_args(hint)
        inner = maker_of(result)
        return inner and Maker(inner.base, 0 if given is Ellipsis else len(given))
    is_class = isinstance(hint, type) and get_origin(hint) is None
    return Maker(hint) if is_class and hint.__module__ not in _NO_OBJECTS else None


def values_of(hint: Any) -> Any:
    """Find the hint of a dictionary's values; None for what is no dictionary."""
    origin, inner = get_origin(hint), get_args(hint)
    return inner[1] if isinstance(origin, type) and issubclass(origin, Mapping) else None


def items_of(hint: Any) -> Any:
    """Find the hint of a list's items; None for what is no list."""
    origin, inner = get_origin(hint), get_args(hint)
    is_list = isinstance(origin, type) and issubclass(origin, Iterable) and origin is not tuple
    return inner[0] if is_list and not issubclass(origin, Mapping) else None


def classes(base: type) -> dict[str, type]:
    """Find the classes of a kind that are imported and can be chosen, by their short names."""
    found: dict[str, type] = {}
    waiting = [base]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        is_ours = cls.__module__.startswith("asymvlm.")
        is_base: bool = cls is base or (
            is_ours and bool(cls.__subclasses__()) and "kind" not in vars(cls)
        )
        if not (inspect.isabstract(cls) or cls.__name__.startswith("_") or is_base):
            found.setdefault(cls.__name__, cls)
    return dict(sorted(found.items()))


def class_named(name: str, base: type) -> Any:
    """Find a class, or a function that makes an object of it, by its short name or its path.

    Raises LookupError, saying why if that is not plain, where there is none of this kind.
    """
    if "." not in name:
        known = {base.__name__: base, **classes(base)}
        if name not in known:
            raise LookupError
        return known[name]
    module, _, last = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), last)
    except Exception as error:  # whatever is in somebody's module
        reason = " ".join(str(error).split())
        raise LookupError(f" ({type(error).__name__}: {reason})") from error
    if not callable(found) or (isinstance(found, type) and not issubclass(found, base)):
        raise LookupError(f" (it is no {base.__name__})")
    return found


def fits(hint: Any, value: Any) -> bool:
    """Return whether a plain value is one that a hint allows."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        if isinstance(value, str):
            parser.parse_args([f"--value={value}"])
        else:
            parser.parse_object({"value": value})
    except Exception:  # whatever a parser makes of it
        return False
    return True


def in_words(hint: Any) -> str:
    """Say what a hint asks for."""
    parts = dict.fromkeys(_word(each) for each in members(hint))
    if "a number" in parts:
        parts.pop("a whole number", None)
    return " or ".join(parts)


def _word(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if is_dataclass(hint):
        return f"settings ({', '.join(parameters(hint))})"  # type: ignore[arg-type]
    maker = maker_of(hint)
    if maker is not None:
        return f"a {maker.base.__name__}"
    if origin is tuple and Ellipsis not in inner:
        return f"a list [{', '.join(in_words(each) for each in inner)}]"
    if items_of(hint) is not None or origin is tuple:
        return f"a list [{in_words(inner[0])}, ...]"
    return _WORDS.get(origin or hint, getattr(hint, "__name__", str(hint)))
