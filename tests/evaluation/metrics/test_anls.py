"""ANLS as the challenges' script has it, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from asymvlm.evaluation.metrics.anls import ANLS, edit_distance

BY_HAND = [
    # reply, answers, 1 - edits / length of the longer as given
    ("tea", ["tea"], 1.0),
    ("Tea", ["tEA"], 1.0),
    ("sitting", ["kitten"], 0.5714285714),  # 3 of 7
    ("abcx", ["abcd"], 0.75),
    ("abxy", ["abcd"], 0.5),  # exactly half stays
    ("axyz", ["abcd"], 0.0),  # 1 - 3/4
    ("xyz", ["abcd"], 0.0),
    ("abcde", ["xyzde"], 0.0),  # 1 - 3/5
    ("abcdef", ["abcxyz"], 0.5),
    ("teas", ["milk", "tea", "coffee"], 0.75),  # the nearest counts
    ("milk", ["tea", "milk"], 1.0),
    ("tea", ["milk"], 0.0),
    # Blanks.
    ("green tea", ["green  tea"], 1.0),
    ("green\ttea", ["green tea"], 1.0),
    ("green\ntea", ["green tea"], 1.0),
    (" green tea ", ["green tea"], 1.0),
    ("green \t\n tea", ["GREEN TEA"], 1.0),
    ("green\u00a0tea", ["green tea"], 1.0),  # no-break space
    ("green\u3000tea", ["green tea"], 1.0),  # ideographic space
    ("greentea", ["green tea"], 0.8888888889),  # 1 of 9
    ("abcx    ", ["abcd"], 0.875),  # 1 of 8: spare blanks count into the length
    ("abcx", [" abcd "], 0.8333333333),  # 1 of 6
    ("ax      ", ["ab"], 0.875),
    ("abxyz", ["abcd  "], 0.5),  # 3 of 6
    ("   ", [""], 1.0),
    ("", [" \t"], 1.0),
    # Nothing.
    ("", [""], 1.0),
    ("", ["tea"], 0.0),
    ("tea", [""], 0.0),
    ("", ["tea", ""], 1.0),
    # Letters beyond ASCII.
    ("CAFÉ", ["café"], 1.0),
    ("cafe", ["café"], 0.75),
    ("cafe\u0301", ["café"], 0.6),  # two code points for the last letter: 2 of 5
    ("straße", ["strasse"], 0.7142857143),  # 2 of 7
    ("ß", ["x"], 0.5),  # its upper case has two letters: 1 of 2
    ("日本", ["日本"], 1.0),
    ("日本語", ["日本"], 0.6666666667),
    ("ΣΑΣ", ["σας"], 1.0),
    # Numbers are letters.
    ("14.", ["14"], 0.6666666667),
    ("1,000", ["1000"], 0.8),
    ("1e3", ["1000"], 0.0),  # 3 of 4
    ("50%", ["50"], 0.6666666667),
    ("50", ["50 %"], 0.5),
    ("-0", ["0"], 0.5),
    ("nan", ["nan"], 1.0),
    ("5 kg", ["5 km"], 0.75),
    # Words and marks.
    ("concatenate", ["cat"], 0.0),
    ("the cat", ["cat"], 0.0),  # 4 of 7
    ("t-shirt", ["t shirt"], 0.8571428571),
    ("t-shirt", ["tshirt"], 0.8571428571),
    ("tea.", ["tea"], 0.75),
    ("12/03/2019", ["12-03-2019"], 0.8),
]


@pytest.mark.parametrize("given,answers,expected", BY_HAND)
def test_by_hand(given, answers, expected):
    assert ANLS().score(given, answers) == pytest.approx(expected, abs=1e-9)


def test_edit_distance_is_exact_for_long_texts_with_something_missing():
    text = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 120))
    parted = text[:40] + text[90:]
    assert edit_distance(text, text[50:]) == edit_distance(text[50:], text) == 50
    assert edit_distance(text, parted) == edit_distance(parted, text) == 50
    assert edit_distance("", "abc") == 3 and edit_distance("", "") == 0
