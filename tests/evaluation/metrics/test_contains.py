"""Contains as OCRBench's script has it: letters, not words."""

from __future__ import annotations

import pytest

from asymvlm.evaluation.metrics.contains import Contains

BY_HAND = [
    ("tea", ["tea"], 1),
    ("It is tea.", ["tea"], 1),
    ("The GREEN TEA.", ["green tea"], 1),
    ("the green tea", ["Green Tea"], 1),
    ("green", ["green tea"], 0),
    ("tea green", ["green tea"], 0),
    # No borders of words or numbers.
    ("concatenate", ["cat"], 1),
    ("cat", ["concatenate"], 0),
    ("green teas", ["green tea"], 1),
    ("steam", ["tea"], 1),
    ("15", ["5"], 1),
    ("3.5 litres", ["5"], 1),
    ("5,000", ["5"], 1),
    ("(5)", ["5"], 1),
    ("5", ["15"], 0),
    # Blanks.
    (" tea ", ["tea"], 1),
    ("tea", [" tea\t"], 1),
    ("green\ntea", ["green tea"], 1),
    ("green tea", ["green\ntea"], 1),
    ("green\r\ntea", ["green tea"], 0),
    ("green\ttea", ["green tea"], 0),
    ("green  tea", ["green tea"], 0),
    ("greentea", ["green tea"], 0),
    ("green tea", ["greentea"], 0),
    ("tea\n", ["tea"], 1),
    ("\n", ["tea"], 0),
    # Nothing.
    ("", ["tea"], 0),
    ("tea", [""], 1),
    ("", [""], 1),
    # Several answers: any.
    ("I see milk", ["tea", "milk"], 1),
    ("I see salt", ["tea", "milk"], 0),
    ("tea and milk", ["milk", "coffee"], 1),
    # Letters beyond ASCII.
    ("Ein CAFÉ", ["café"], 1),
    ("cafe", ["café"], 0),
    ("cafe\u0301", ["café"], 0),
    ("STRASSE", ["straße"], 0),
    ("这是日本。", ["日本"], 1),
    # Numbers are letters.
    ("14.", ["14"], 1),
    ("14", ["14."], 0),
    ("1000", ["1,000"], 0),
    ("1e3", ["1000"], 0),
    ("50%", ["50"], 1),
    ("50", ["50%"], 0),
    ("-0", ["0"], 1),
    ("nan", ["NaN"], 1),
    ("info", ["inf"], 1),
    ("5kg", ["5 kg"], 0),
    # Marks stay as they are, and mean nothing to the search.
    ("t-shirt", ["t shirt"], 0),
    ("a t-shirt", ["t-shirt"], 1),
    ("abc", ["a.c"], 0),
    ("a.c", ["a.c"], 1),
    ("(x)", ["(x"], 1),
    ("an apple", ["a"], 1),
]


@pytest.mark.parametrize("given,answers,expected", BY_HAND)
def test_by_hand(given, answers, expected):
    assert Contains().score(given, answers) == expected
