"""Imports go one way in every form that Python has, and rooms say truly what they import."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
from support import ROOT

SOURCES = ROOT / "src"
FRONT = "asymvlm"
# It names the commands' modules, and imports the one that is asked for.
COMMANDS = "asymvlm.cli.commands"
# Of the package's front, what is no offer of a room above.
OF_THE_FRONT = {"__version__"}


def module_of(path):
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted((SOURCES / FRONT).rglob("*.py"))}


def layers():
    """The rank of each room, the lowest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (rows,) = (
        contract["layers"]
        for contract in settings["contracts"]
        if contract["name"] == "rooms import downwards"
    )
    return {room: -row for row, rooms in enumerate(rows) for room in rooms.split(" | ")}


RANK = layers()


def room_of(module):
    return module.split(".")[1]


def from_package(module, is_package, level):
    """The package that a relative import starts from."""
    parts = module.split(".")
    return ".".join(parts[: len(parts) - level + is_package])


def imports(module, text):
    """Line and module of every import: plain, for types alone, or by a text that names a module.

    `asymvlm` alone stands for what its front offers.
    """
    is_package = FILES[module].name == "__init__.py"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = from_package(module, is_package, node.level) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            for name in node.names:
                inner = f"{base}.{name.name}"
                if base != FRONT or name.name not in OF_THE_FRONT:
                    yield node.lineno, inner if inner in FILES else base
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and module != COMMANDS:
            named = node.value if node.value.startswith(FRONT) else FRONT + node.value
            if named in FILES and named != FRONT:
                yield node.lineno, named


def faults(module, text):
    """Imports of a module above, beside, or through the package's front."""
    found = []
    for line, target in imports(module, text):
        if target != FRONT and not target.startswith(f"{FRONT}."):
            continue
        own = room_of(module)
        if target == FRONT or (room_of(target) != own and RANK[own] <= RANK[room_of(target)]):
            found.append(f"{module}:{line} imports {target}")
    return found


def test_nothing_is_imported_upwards_or_sideways():
    found = [
        fault
        for module, path in FILES.items()
        if module != FRONT
        for fault in faults(module, path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "module,line",
    [
        ("asymvlm.engine.stage", "from .. import prune"),
        ("asymvlm.engine.stage", "from asymvlm import prune"),
        ("asymvlm.engine.stage", "import asymvlm"),
        ("asymvlm.scorers.base", "importlib.import_module('asymvlm.training.data')"),
        ("asymvlm.scorers.base", "importlib.import_module('.training.data', 'asymvlm')"),
        ("asymvlm.scorers.base", "if TYPE_CHECKING:\n    from ..training import data"),
        ("asymvlm.scorers.base", "def inside():\n    from ..training.data import PagesData"),
        ("asymvlm.methods.base", "from ..targets import Target"),
    ],
)
def test_every_form_of_an_import_is_seen(module, line):
    assert faults(module, line)
    assert not faults(module, "from ..typing import Float\nfrom .. import __version__")


ROOMS = sorted({room_of(module) for module in FILES if module != FRONT})


@pytest.mark.parametrize(
    "room", [room for room in ROOMS if (SOURCES / FRONT / room / "__init__.py").exists()]
)
def test_rooms_say_what_they_import(room):
    real = {
        room_of(target)
        for module, path in FILES.items()
        if module != FRONT and room_of(module) == room
        for _, target in imports(module, path.read_text(encoding="utf-8"))
        if target.startswith(f"{FRONT}.") and room_of(target) != room
    }
    said = ast.get_docstring(ast.parse(FILES[f"{FRONT}.{room}"].read_text(encoding="utf-8")))
    (names,) = re.findall(r"\bImports\s([\w,\s]+)\.$", said)
    assert sorted(set(re.findall(r"\w+", names)) - {"and", "nothing"}) == sorted(real)
