"""Exact match: lower case without surrounding blanks, and nothing else."""

from __future__ import annotations

import pytest

from asymvlm.evaluation.metrics.exact_match import ExactMatch

BY_HAND = [
    ("tea", ["tea"], 1),
    ("Tea", ["tea"], 1),
    ("tea", ["TEA"], 1),
    ("te", ["tea"], 0),
    ("teas", ["tea"], 0),
    # Blanks.
    (" tea ", ["tea"], 1),
    ("tea", ["\ttea\n"], 1),
    ("tea\u00a0", ["tea"], 1),
    ("green  tea", ["green tea"], 0),
    ("green\ttea", ["green tea"], 0),
    ("green\ntea", ["green tea"], 0),
    ("greentea", ["green tea"], 0),
    # Nothing.
    ("", [""], 1),
    ("  ", [""], 1),
    ("", ["tea"], 0),
    ("tea", [""], 0),
    ("", ["tea", " "], 1),
    # Several answers: any.
    ("milk", ["tea", "Milk "], 1),
    ("salt", ["tea", "milk"], 0),
    ("tea milk", ["tea", "milk"], 0),
    # Letters beyond ASCII.
    ("CAFÉ", ["café"], 1),
    ("cafe", ["café"], 0),
    ("cafe\u0301", ["café"], 0),
    ("STRASSE", ["straße"], 0),
    ("日本", ["日本"], 1),
    ("\uff11", ["1"], 0),
    # Numbers are letters.
    ("14.", ["14"], 0),
    ("14.0", ["14"], 0),
    ("1e3", ["1000"], 0),
    ("1,000", ["1000"], 0),
    ("50%", ["50"], 0),
    ("50%", ["0.5"], 0),
    ("-0", ["0"], 0),
    ("NaN", ["nan"], 1),
    ("INF", ["inf"], 1),
    ("two", ["2"], 0),
    ("5 kg", ["5"], 0),
    ("5 kg", ["5 KG"], 1),
    # Words and marks.
    ("concatenate", ["cat"], 0),
    ("the tea", ["tea"], 0),
    ("a tea", ["tea"], 0),
    ("t-shirt", ["t shirt"], 0),
    ("t-shirt", ["T-Shirt"], 1),
    ("tea.", ["tea"], 0),
    ("dont", ["don't"], 0),
    ("don\u2019t", ["don't"], 0),
]


@pytest.mark.parametrize("given,answers,expected", BY_HAND)
def test_by_hand(given, answers, expected):
    assert ExactMatch().score(given, answers) == expected
