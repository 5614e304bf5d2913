"""Follow the keys of settings into what their type hints allow, and say where they leave it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from typing import Any, NamedTuple, Protocol

from .hints import (
    Maker,
    Parameter,
    class_named,
    classes,
    fits,
    in_words,
    items_of,
    maker_of,
    members,
    parameters,
    values_of,
)


class Mistake(Exception):  # noqa: N818 - what is looked for
    """A setting that cannot be, in words."""


class Group(NamedTuple):
    """Settings that are one object's, without a choice of its class.

    Args:
        owner: What takes them; empty where that is what their keys say.
        settings: By name.
    """

    owner: str
    settings: Mapping[str, Parameter]


class Key(NamedTuple):
    """A key and its value.

    Args:
        shown: As it was written, as far as it has been followed.
        rest: What of it is left to follow; None where nothing is.
        value: As YAML reads it.
        place: What it stands for, without `class_path` and `init_args`, which flags leave out.
    """

    shown: str
    rest: str | None
    value: Any
    place: tuple[str, ...]

    def entry(self, name: str, value: Any, between: str = ".") -> Key:
        """Follow the name of something inside the value."""
        first, dot, rest = name.partition(".")
        place = (*self.place, first.removesuffix("+"))
        return Key(f"{self.shown}{between}{first}", rest if dot else None, value, place)

    def entries(self) -> list[Key]:
        """Follow what is left of the key, or all names in the value."""
        if self.rest is not None:
            return [self.entry(self.rest, self.value)]
        return [self.entry(str(name), value) for name, value in self.value.items()]


class Visitor:
    """Checks settings in their order, and keeps what was given and which classes are chosen.

    Raises Mistake.
    """

    def __init__(self) -> None:
        self.chosen: dict[tuple[str, ...], Maker] = {}
        self.given: set[tuple[str, ...]] = set()

    def visit(self, hint: Any, key: Key) -> None:
        """Check a value, or what the rest of the key names inside of it."""
        self.given.add(key.place)
        nodes = [(each, _node(each)) for each in members(hint)]
        plain = [each for each, node in nodes if node is None]
        if key.rest is None and any(fits(each, key.value) for each in plain):
            return
        able = [node for _, node in nodes if node is not None and node.holds(key)]
        # What flags name inside of a list is of its newest item.
        newest = [node for node in able if (*key.place, *node.below) in self.chosen]
        if able:
            (newest or able)[0].visit(self, key)
        elif key.rest is not None:
            raise Mistake(f"{key.shown}.{key.rest}: {key.shown} has no settings of its own")
        elif not fits(hint, key.value):
            raise Mistake(f"{key.shown}: {key.value!r} is not {in_words(hint)}")


class _Node(Protocol):
    """A hint whose values have settings inside."""

    below: tuple[str, ...]

    def holds(self, key: Key) -> bool:
        """Return whether the key's value may be one of this hint."""

    def visit(self, search: Visitor, key: Key) -> None:
        """Check what is inside."""


class GroupNode:
    """One object's settings."""

    below: tuple[str, ...] = ()

    def __init__(self, group: Group) -> None:
        self.group = group

    def holds(self, key: Key) -> bool:
        return key.rest is not None or isinstance(key.value, Mapping)

    def visit(self, search: Visitor, key: Key) -> None:
        for entry in key.entries():
            self.enter(search, entry)

    def enter(self, search: Visitor, entry: Key) -> None:
        """Check a setting of the group."""
        name, known = entry.place[-1], self.group.settings
        if name not in known:
            near = did_you_mean(name, known)
            takes = f"takes {', '.join(known)}" if known else "takes no settings"
            owner = self.group.owner or ".".join(entry.place[:-1])
            raise Mistake(f"{entry.shown}: unknown; {near}{owner} {takes}")
        search.visit(known[name].hint, entry)


class _ObjectNode:
    below: tuple[str, ...] = ()

    def __init__(self, maker: Maker) -> None:
        self.maker = maker

    def holds(self, key: Key) -> bool:
        return key.rest is not None or isinstance(key.value, Mapping | str)

    def visit(self, search: Visitor, key: Key) -> None:
        if key.rest is None and isinstance(key.value, str):
            self._choose(search, key)
            return
        entries = key.entries()
        for entry in entries:
            if entry.place[-1] == "class_path":
                self._choose(search, entry._replace(place=key.place))
        for entry in entries:
            if entry.place[-1] == "init_args":
                inner = entry._replace(place=key.place)
                GroupNode(self._group(search, inner)).visit(search, inner)
            elif entry.place[-1] not in ("class_path", "dict_kwargs"):
                GroupNode(self._group(search, key)).enter(search, entry)

    def _choose(self, search: Visitor, key: Key) -> None:
        if os.path.isfile(str(key.value)):
            return  # of settings, which the parser reads
        base, known = self.maker.base, classes(self.maker.base)
        try:
            cls = class_named(str(key.value), base)
        except LookupError as why:
            near = did_you_mean(str(key.value), known)
            raise Mistake(
                f"{key.shown}: there is no {base.__name__} {key.value!r}{why}; {near}there are "
                f"{', '.join(known)}"
            ) from why
        search.chosen[key.place] = Maker(cls, self.maker.skipped)

    def _group(self, search: Visitor, key: Key) -> Group:
        maker = search.chosen.get(key.place, self.maker)
        known = classes(self.maker.base)
        if maker is self.maker and known:
            raise Mistake(
                f"{key.shown}: no class is chosen for these settings; set "
                f"{'.'.join(key.place)}.class_path to one of {', '.join(known)}"
            )
        return Group(maker.base.__name__, parameters(maker.base, maker.skipped))


class _EntriesNode:
    below: tuple[str, ...] = ()

    def __init__(self, hint: Any) -> None:
        self.hint = hint

    def holds(self, key: Key) -> bool:
        return key.rest is not None or isinstance(key.value, Mapping)

    def visit(self, search: Visitor, key: Key) -> None:
        for entry in key.entries():
            search.visit(self.hint, entry)


class _ItemsNode:
    below: tuple[str, ...] = ("[]",)

    def __init__(self, hint: Any) -> None:
        self.hint = hint

    def holds(self, key: Key) -> bool:
        return key.rest is not None or key.shown.endswith("+") or isinstance(key.value, list)

    def visit(self, search: Visitor, key: Key) -> None:
        place = (*key.place, *self.below)
        if not isinstance(key.value, list) or key.rest is not None:
            search.visit(self.hint, key._replace(place=place, shown=key.shown.removesuffix("+")))
            return
        for number, item in enumerate(key.value):
            search.visit(self.hint, Key(f"{key.shown}[{number}]", None, item, place))


def _node(hint: Any) -> _Node | None:
    """Find how to look inside of a hint's values; None for plain ones."""
    if isinstance(hint, Group):
        return GroupNode(hint)
    if is_dataclass(hint):
        return GroupNode(Group("", parameters(hint)))  # type: ignore[arg-type]
    maker, values, items = maker_of(hint), values_of(hint), items_of(hint)
    if maker is not None:
        return _ObjectNode(maker)
    if values is not None and _has_inside(values):
        return _EntriesNode(values)
    return _ItemsNode(items) if items is not None and _has_inside(items) else None


def _has_inside(hint: Any) -> bool:
    return any(_node(each) is not None for each in members(hint))


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Name the nearest of what is known, if anything is near."""
    by_case = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_case, 1, 0.5)
    return f"did you mean {by_case[close[0]]}? " if close else ""
