"""Errors name the argument of whoever was called."""

from __future__ import annotations

import ast
import errno
import os
import re

import pytest
from support import ROOT

from asymvlm.errors import DataError, disk_error, first_line, renamed_arguments

# Rooms that know of no command.
LIBRARY = (
    "backbone",
    "checkpoint",
    "distillation",
    "documents",
    "engine",
    "eviction",
    "gates",
    "methods",
    "objectives",
    "pruning",
    "scorers",
    "storage",
    "targets",
)
FLAG = re.compile(r"(^|\s)(--[a-z]|(model|data)\.(path|columns|teacher|target|objectives|\w+:))")


@pytest.mark.parametrize(
    "said,expected",
    [
        ("path: /nowhere does not exist", "data.path: /nowhere does not exist"),
        ("path.inner: is odd: very", "data.path.inner: is odd: very"),
        ("paths: none", "paths: none"),
        ("no path at all", "no path at all"),
    ],
)
def test_arguments_are_renamed_at_the_head_of_a_message(said, expected):
    with pytest.raises(DataError) as raised, renamed_arguments({"path": "data.path"}):
        raise DataError(said)
    assert str(raised.value) == expected


def test_library_errors_name_no_flag_of_a_command():
    found = []
    for room in LIBRARY:
        for file in sorted((ROOT / "src/asymvlm" / room).rglob("*.py")):
            raises = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Raise)]
            texts = [
                node.value
                for statement in raises
                for node in ast.walk(statement)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            found += [(str(file), text) for text in texts if FLAG.search(text)]
    assert found == []


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EIO"])
def test_errors_of_the_disk_name_the_file(name):
    number = getattr(errno, name)
    error = OSError(number, os.strerror(number), "out/a")
    assert disk_error(error) == f"out/a: {os.strerror(number)}"
    assert disk_error(OSError(errno.ENOENT, "no such file", "out/a")) is None


@pytest.mark.parametrize(
    ("said", "line"), [("", "AssertionError"), ("\n  \n", "AssertionError"), (" a \nb", "a")]
)
def test_the_first_line_of_an_error(said, line):
    assert first_line(AssertionError(said)) == line
