"""Say in one line which setting of a command line or its configs cannot be, and what can.

Parsers say it in terms of their own insides. This is asked only where they have refused: it goes
through what was given, in their order, until it finds something that the types do not allow.
"""

from __future__ import annotations

import difflib
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .hints import Parameter, parameters
from .settings_tree import Group, GroupNode, Key, Mistake, Visitor

# Of every parser, and checked by it alone.
_SPECIAL = ("config", "help", "print_config", "print_shtab")
_MISSING = "???"
# Keys by which a configuration shows which command it is for.
_SIGNS = {"model": "train", "trainer": "train", "policies": "eval eviction"}
_SIGNS |= {"severities": "robustness", "keeps": "eval", "methods": "eval"}


class Root(NamedTuple):
    """The settings of a command.

    Args:
        command: Its name, as people call it.
        settings: Its settings; the hint of some may be a `Group`.
        words: Words that may stand before all flags.
        files: Configs that are read before all others.
    """

    command: str
    settings: Mapping[str, Parameter]
    words: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


@contextmanager
def explained(root: Root, arguments: Sequence[str]) -> Iterator[None]:
    """Have a parser's errors say what `explain` finds, if anything."""
    try:
        yield
    except ArgumentError as error:
        try:
            text = explain(root, arguments)
        except Exception:  # the parser's words are better than a traceback of this
            text = None
        raise ArgumentError(None, text or str(error)) from error


def explain(root: Root, arguments: Sequence[str]) -> str | None:
    """Find the first setting that cannot be; None where the types know of none."""
    search = _Search(root)
    try:
        for file in root.files:
            search.read(file)
        search.follow(arguments)
        search.check_required()
    except Mistake as found:
        return " ".join(str(found).split())
    return None


def check_filled(settings: Mapping[str, Any]) -> None:
    """Raise ValueError where a configuration leaves a value to be given, as `???`."""
    for name, value in settings.items():
        if value == _MISSING:
            raise ValueError(f"{name}: a config leaves it open (???); give --{name} VALUE")
        if isinstance(value, Mapping):
            inner = value.get("init_args", {}) if "class_path" in value else value
            check_filled({f"{name}.{key}": each for key, each in inner.items()})


class _Search(Visitor):
    """Goes through configs and flags."""

    def __init__(self, root: Root) -> None:
        super().__init__()
        self.root = root
        self.top = GroupNode(Group(f"`asymvlm {root.command}`", root.settings))

    def read(self, path: Path) -> None:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        signs = [name for name in _SIGNS if name in settings.keys() - self.root.settings.keys()]
        if signs:
            raise Mistake(
                f"--config: {path} is for `asymvlm {_SIGNS[signs[0]]}`, as it sets {signs[0]!r}; "
                f"{self.top.group.owner} takes {', '.join(self.root.settings)}"
            )
        for name, value in settings.items():
            self.top.enter(self, Key(f"{path}: ", None, None, ()).entry(str(name), value, ""))

    def follow(self, arguments: Sequence[str]) -> None:
        rest = list(arguments)
        while rest:
            flag, equals, value = rest.pop(0).partition("=")
            name = flag.lstrip("-")
            if not flag.startswith("-"):
                self._refuse_word(flag)
            if name in _SPECIAL and name != "config":
                continue
            if not equals:
                if not rest or rest[0].startswith("--"):
                    raise Mistake(f"{flag}: its value is missing")
                value = rest.pop(0)
            if name == "config":
                self.read(Path(value))
            else:
                self.top.enter(self, Key("--", None, None, ()).entry(name, _read(value), ""))

    def check_required(self) -> None:
        self._check_given((), self.root.settings, self.top.group.owner)
        for place, maker in self.chosen.items():
            if "[]" not in place:
                needed = parameters(maker.base, maker.skipped)
                self._check_given(place, needed, maker.base.__name__)

    def _check_given(
        self, place: tuple[str, ...], needed: Mapping[str, Parameter], owner: str
    ) -> None:
        for name, parameter in needed.items():
            if parameter.is_required and (*place, name) not in self.given:
                key = ".".join((*place, name))
                raise Mistake(f"{key}: {owner} needs it; give --{key} VALUE")

    def _refuse_word(self, word: str) -> None:
        close = difflib.get_close_matches(word, self.root.words, 1)
        hint = f"; `{close[0]}` comes before all flags" if close else ""
        raise Mistake(f"{word}: this is neither a flag nor the value of one{hint}")


def _read(text: str) -> Any:
    """Read the value of a flag: text, unless it is a list or settings."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, list | dict) else text
