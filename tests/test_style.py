"""Sizes and words that CONTRIBUTING promises, of every file that git knows."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
from support import ROOT

LINES, FUNCTION, PARAMETERS, COLUMNS = 300, 60, 8, 100
# They have as many parameters as a config has keys, or a sample has parts.
MANY_PARAMETERS = {
    ("src/asymvlm/tiny_teacher/data.py", "__init__"),
    ("src/asymvlm/training/gate_module.py", "__init__"),
    ("tests/support/layer_tokens.py", "make"),
    ("tests/support/tower_tokens.py", "make"),
}
TEXT = (".py", ".md", ".yaml", ".toml", ".txt", "Makefile", ".gitignore")
# No first line of a docstring says what it is about by a question, or by what goes wrong.
FIRST_WORDS = re.compile(r"(What|How|Which|Whether|Raises|Where|When|Why|That)\b")


if not (ROOT / ".git").exists():
    pytest.skip("git lists the files of the repository", allow_module_level=True)

LISTED = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.splitlines()
FILES = [ROOT / name for name in LISTED if name.endswith(TEXT) and (ROOT / name).exists()]
PYTHON = [path for path in FILES if path.suffix == ".py"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_free(line: str) -> bool:
    """Whether nothing could be broken: a table's row, or a word as long as the line."""
    return line.lstrip().startswith("|") or max(map(len, line.split())) > COLUMNS - 10


def test_lines():
    wide = [
        f"{name_of(path)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > COLUMNS and not is_free(line)
    ]
    assert wide == []


def test_files():
    long = {name_of(path): path.read_text(encoding="utf-8").count("\n") for path in PYTHON}
    assert {name: count for name, count in long.items() if count > LINES} == {}


def test_functions():
    long = [
        (name_of(path), node.name)
        for path in PYTHON
        for node in functions(path)
        if node.end_lineno - node.lineno >= FUNCTION
    ]
    assert long == []


def test_parameters():
    many = set()
    for path in PYTHON:
        for node in functions(path):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if len([one for one in given if one.arg not in ("self", "cls")]) > PARAMETERS:
                many.add((name_of(path), node.name))
    assert many == MANY_PARAMETERS


def test_first_words_of_docstrings():
    riddles = []
    for path in PYTHON:
        if path.is_relative_to(ROOT / "src"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    text = ast.get_docstring(node) or ""
                    if FIRST_WORDS.match(text):
                        riddles.append((name_of(path), text.splitlines()[0]))
    assert riddles == []
