"""What is unlike its authors' form is said by the method and stands in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import asymvlm
from asymvlm.methods import Learned
from asymvlm.methods.atp import ATP
from asymvlm.methods.cd_pruner import CDPruner
from asymvlm.methods.id_pruner import IDPruner

DOCS = Path("docs/methods.md").read_text(encoding="utf-8")
NEED_MORE = {
    "atp": lambda: ATP(alpha=0),
    "cd_pruner": lambda: CDPruner("clip"),
    "id_pruner": lambda: IDPruner(Learned("scorer")),
    "learned": lambda: Learned("scorer"),
}
POLICIES = {name: made for name, made in asymvlm.evictors().items() if name != "learned_text"}


def line(name, item):
    return f"| `{name}` | {'; '.join(item.deviations)} |\n"


@pytest.mark.parametrize("name", asymvlm.methods())
def test_the_docs_name_what_a_method_does_otherwise(name):
    method = NEED_MORE.get(name, asymvlm.methods()[name])()
    assert (line(name, method) in DOCS) == bool(method.deviations)


@pytest.mark.parametrize("name", POLICIES)
def test_the_docs_name_what_a_policy_does_otherwise(name):
    policy = POLICIES[name]()
    assert (line(name, policy) in DOCS) == bool(policy.deviations)


def test_no_line_is_of_a_form_that_is_gone():
    items = [NEED_MORE.get(name, made)() for name, made in asymvlm.methods().items()]
    items += [made() for made in POLICIES.values()]
    lines = re.findall(r"^\| `\w+` \| [^|]* \|$", DOCS, re.MULTILINE)
    assert len(lines) == sum(bool(item.deviations) for item in items)
