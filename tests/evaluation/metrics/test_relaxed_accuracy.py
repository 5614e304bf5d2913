"""Relaxed accuracy as Pix2Struct's script has it, worked out by hand."""

from __future__ import annotations

import pytest

from asymvlm.evaluation.metrics.relaxed_accuracy import RelaxedAccuracy

BY_HAND = [
    # Within 5 % of the answer, not of the reply.
    ("100", ["100"], 1),
    ("104.9", ["100"], 1),
    ("105", ["100"], 1),
    ("95", ["100"], 1),
    ("105.1", ["100"], 0),
    ("94.9", ["100"], 0),
    ("100", ["95.2"], 0),  # 4.8 / 95.2 = 0.0504
    ("1.05", ["1"], 0),  # 0.05000000000000004 in double precision
    ("0.95", ["1"], 0),  # the same
    ("2.1", ["2"], 0),  # the same
    ("2.09", ["2"], 1),
    ("-100", ["100"], 0),
    ("-97", ["-100"], 1),
    ("+100", ["100"], 1),
    # What is a number.
    ("14.", ["14"], 1),
    (".5", ["0.5"], 1),
    ("1e3", ["1000"], 1),
    ("1E-1", ["0.1"], 1),
    ("1_000", ["1000"], 1),
    ("1,000", ["1000"], 0),
    ("1,000", ["1,000"], 1),  # the same text
    ("1,010", ["1,000"], 0),  # two texts
    ("١٤", ["14"], 1),  # digits of any script
    ("\uff11\uff14", ["14"], 1),
    ("0x10", ["16"], 0),
    ("1/2", ["0.5"], 0),
    ("two", ["2"], 0),
    ("$5", ["5"], 0),
    ("5 kg", ["5"], 0),
    ("5 KG", ["5 kg"], 1),
    # Percent.
    ("50%", ["0.5"], 1),
    ("50%", ["50"], 0),
    ("50", ["50%"], 0),
    ("0.5", ["50%"], 1),
    ("50 %", ["50%"], 1),
    ("52%", ["50%"], 1),
    ("53%", ["50%"], 0),
    ("50%%", ["50%"], 1),
    ("50% ", ["50%"], 0),  # no closing percent sign: a text, and another one
    ("%", ["%"], 1),
    # Zero leaves no 5 %: the text must be the same.
    ("0", ["0"], 1),
    ("0.0", ["0"], 0),
    ("-0", ["0"], 0),
    ("0", ["0.00"], 0),
    ("0%", ["0%"], 1),
    ("0%", ["0"], 0),
    ("0.001", ["0"], 0),
    ("0", ["5"], 0),
    ("0", ["1e-400"], 0),  # read as zero
    # Nothing is near these.
    ("nan", ["nan"], 0),
    ("5", ["nan"], 0),
    ("nan", ["5"], 0),
    ("inf", ["inf"], 0),
    ("5", ["inf"], 0),
    ("inf", ["5"], 0),
    ("1e999", ["1e999"], 0),
    # Blanks do not matter to numbers, and do to texts.
    (" 14\n", ["\t14"], 1),
    ("Tea", ["tEA"], 1),
    (" tea", ["tea"], 0),
    ("tea", ["tea "], 0),
    ("green  tea", ["green tea"], 0),
    ("", [""], 1),
    ("", ["0"], 0),
    ("0", [""], 0),
    # Texts.
    ("concatenate", ["cat"], 0),
    ("the tea", ["tea"], 0),
    ("t-shirt", ["t shirt"], 0),
    ("CAFÉ", ["café"], 1),
    ("STRASSE", ["straße"], 0),
    ("14", ["tea"], 0),
    ("tea", ["14"], 0),
    # Several answers: the best.
    ("14", ["20", "14.5"], 1),
    ("14", ["20", "tea"], 0),
    ("0", ["5", "0"], 1),
]


@pytest.mark.parametrize("given,answers,expected", BY_HAND)
def test_by_hand(given, answers, expected):
    assert RelaxedAccuracy().score(given, answers) == expected
