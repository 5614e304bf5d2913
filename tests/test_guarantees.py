"""Every line of docs/guarantees.md and docs/faults.md names a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pages = pytest.mark.parametrize("name", ["guarantees", "faults"])


@pages
def test_every_named_test_is_there(name):
    page = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 30
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"^(def |class |){name}\b", (ROOT / file).read_text(), re.M)
    ]
    assert not missing


@pages
def test_every_line_names_one(name):
    page = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
    heads = {
        "| path | what holds | test |",
        "| call | why | test |",
        "| kind | what happens | test |",
    }
    assert {row for row in rows if "`tests/" not in row} <= heads
