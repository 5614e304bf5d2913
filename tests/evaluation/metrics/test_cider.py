"""CIDEr-D against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from asymvlm.evaluation.metrics.cider import CIDEr

# Two questions, with the answers `a cat sits` and `a dog runs`, and replies to the second. `a` is
# in both and weighs nothing; every other n-gram weighs log 2, which cancels. What is left is 2.5 x
# the sum over n of the cosine of clipped counts x exp(-difference of lengths^2 / 72).
REPLIES = [
    ("a dog runs", 7.5),  # 1 + 1 + 1, and no words of four
    ("A DOG RUNS", 7.5),
    ("a dog runs.", 7.5),
    ("a, dog; runs!", 7.5),
    (" a\tdog\n runs ", 7.5),
    ("a dog sat", 2.5),  # 1/2 + 1/2
    ("the dog runs", 3.2912414523),  # 2/sqrt 6 + 1/2
    ("a dog", 3.4867686995),  # 1/sqrt 2 + 1/sqrt 2, one word less
    ("dog runs", 4.2089021416),  # 1 + 1/sqrt 2, one word less
    ("DOG?RUNS", 4.2089021416),
    ("dog", 1.6722358880),  # 1/sqrt 2, two words less
    ("runs", 1.6722358880),
    ("dog dog dog", 0.5892556510),  # three times, counts once: 1/(3 sqrt 2)
    ("dog runs runs", 2.8311388301),  # 2/sqrt 10 + 1/2
    ("runs dog", 2.4655177919),  # 1, one word less
    ("runs dog a", 2.5),
    ("a big dog runs", 3.0196302709),  # 2/sqrt 6 + 1/sqrt 6, one word more
    ("a dog runs runs", 5.3158015638),  # 2/sqrt 10 + 2/sqrt 6 + 1/sqrt 2, one word more
    ("a dog runs 1", 5.7695580443),  # 2/sqrt 6 + 2/sqrt 6 + 1/sqrt 2, one word more
    ("a dog dog runs", 3.5724172141),  # 2/sqrt 10 + 2/sqrt 6, one word more
    ("dog x x x x x x x x", 0.1329906448),  # 1/sqrt 130, six words more
    ("cat dog", 1.2327588959),  # 1/2, one word less
    ("dog's", 1.2327588959),  # dog and 's
    ("a cat sits", 0.0),
    ("a", 0.0),
    ("a a a", 0.0),
    ("dogs", 0.0),
    ("a dog-runs", 0.0),
    ("", 0.0),
    (" \t\n", 0.0),
]
# The same with another second answer, beside `zebra`: which words texts have.
ANSWERED = [
    ("tea", "tea", 2.5),
    ("the tea", "tea", 1.7433843498),  # 1/sqrt 2, one word more
    ("tea tea", "tea", 1.2327588959),  # 1/2, one word more
    ("14.", "14", 2.5),
    ("1e3", "1000", 0.0),
    ("1,000", "1,000", 2.5),
    ("1,000", "1000", 0.0),
    ("3.5", "3.5", 2.5),
    ("3.5", "5", 0.0),
    ("10:30", "10:30", 2.5),
    ("1/2", "1/2", 2.5),
    ("50%", "50 %", 5.0),  # two words
    ("50%", "50", 1.7433843498),
    ("$5", "5", 1.7433843498),
    ("5 kg", "5kg", 0.0),
    ("-0", "0", 2.5),
    ("nan", "NaN", 2.5),
    ("info", "inf", 0.0),
    ("concatenate", "cat", 0.0),
    ("t-shirt", "T-shirt", 2.5),
    ("t-shirt", "t shirt", 0.0),
    ("don't", "don't", 5.0),  # do and n't
    ("don\u2019t", "don't", 5.0),
    ("dont", "don't", 0.0),
    ("we'll", "we", 1.7433843498),
    ("its", "it's", 0.0),
    ('"tea"', "(tea)", 2.5),
    ("CAFÉ", "café", 2.5),
    ("straße", "strasse", 0.0),
    ("日本", "日本", 2.5),
    ("", "tea", 0.0),
    ("tea", "", 0.0),
    ("", "", 0.0),
]


@pytest.mark.parametrize("given,expected", REPLIES)
def test_replies_by_hand(given, expected):
    same, other = CIDEr().scores(["a cat sits", given], [["a cat sits"], ["a dog runs"]])
    assert same == pytest.approx(7.5) and other == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("given,answer,expected", ANSWERED)
def test_words_by_hand(given, answer, expected):
    assert CIDEr().scores(["", given], [["zebra"], [answer]]) == pytest.approx([0, expected])


def test_cider_is_the_mean_over_references_and_counts_questions_not_references():
    references = [["one bird", "one bird", "a cat sits"], ["a dog runs"], ["one fish"]]
    scores = CIDEr().scores(["a cat sits", "", ""], references)
    assert scores[0] == pytest.approx(7.5 / 3)
    ((shared, _, _), (alone, _, _)) = (
        CIDEr().scores([one, "", ""], references) for one in ("one", "bird")
    )
    rare = math.log(3)
    common = math.log(3 / 2)
    penalty = math.exp(-1 / 72)
    assert shared == pytest.approx(10 * 2 / 3 / 4 * (penalty * common / math.hypot(rare, common)))
    assert alone == pytest.approx(10 * 2 / 3 / 4 * (penalty * rare / math.hypot(rare, common)))
