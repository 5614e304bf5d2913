"""docs/checkpoint-format.md says what the schema says, key by key and tensor by tensor."""

from __future__ import annotations

import re

import pytest
from support import ROOT

from asymvlm.check.schema import (
    ADAPTER_DTYPES,
    ADAPTER_KEYS,
    BUDGET_TENSORS,
    KEYS,
    KINDS,
    LARGEST_NORM,
    LARGEST_WEIGHT,
    OWN_ENTRIES,
    SCORER_DTYPES,
)
from asymvlm.scorers import scorers

PAGE = (ROOT / "docs/checkpoint-format.md").read_text(encoding="utf-8")


def section(title):
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)[1]


def rows(text):
    """Cells of the table rows whose first cell is a name in code."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words(key):
    """What the page must say of a key's value."""
    said = key.rule.allowed
    said = f"`{said}`" if re.fullmatch(r'"[\w-]+"|\d+', said) else said
    said += f", equal to `{key.equals}`" if key.equals else ""
    said += f", a divisor of `{key.divides}`" if key.divides else ""
    return said + (", may be left out" if key.optional else "")


@pytest.mark.parametrize("title,keys", [("config.json", KEYS), ("adapter/", ADAPTER_KEYS)])
def test_keys(title, keys):
    assert [(row[0].strip("`"), row[1]) for row in rows(section(title))] == [
        (path, words(key)) for path, key in keys.items()
    ]


def test_arguments_of_kinds():
    written = {row[0].strip("`"): row[1] for row in rows(section("model.safetensors"))}
    assert written == {
        kind: "; ".join(f"`{name}`: {words(key)}" for name, key in described.arguments.items())
        for kind, described in KINDS.items()
    }
    assert written.keys() == scorers().keys()


def tensors_in(text):
    found = re.findall(r"`([\w.]+) \[([^]]+)\]`", text)
    return {
        name: tuple(int(size) if size.isdigit() else size for size in shape.split(", "))
        for name, shape in found
    }


def test_tensors():
    text = section("model.safetensors")
    context = text.split("Context is ")[1].split(":")[0]
    written = {
        row[0].strip("`"): tensors_in(row[2] + context * row[2].endswith(", context"))
        for row in rows(text)
    }
    assert written == {kind: described.tensors for kind, described in KINDS.items()}
    assert tensors_in(text.split("Under `budget.`")[1].split("\n\n")[0]) == BUDGET_TENSORS


def test_limits_types_and_files():
    text = " ".join(section("model.safetensors").split())
    assert f"at most {LARGEST_WEIGHT} in size" in text and SCORER_DTYPES == ("F32",)
    assert f"no longer than {LARGEST_NORM:g}".replace("+", "") in text
    assert "of fp32, fp16 or bf16" in " ".join(section("adapter/").split())
    assert ADAPTER_DTYPES == ("F32", "F16", "BF16")
    assert tuple(row[0].strip("`/") for row in rows(PAGE.split("## ")[0])) == OWN_ENTRIES
