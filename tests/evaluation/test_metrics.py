"""The field's answer metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymvlm.evaluation.metrics import answer_metrics
from asymvlm.evaluation.metrics.anls import edit_distance

METRICS = {kind: cls() for kind, cls in answer_metrics().items()}


def test_every_metric_is_found_by_its_name():
    assert set(METRICS) == {
        "anls",
        "cider",
        "contains",
        "exact_match",
        "relaxed_accuracy",
        "vqa_accuracy",
    }


@pytest.mark.parametrize("given,expected", [(" Tea ", 1), ("milk", 1), ("the tea", 0), ("te", 0)])
def test_exact_match_is_the_rule_of_the_evaluation(given, expected):
    assert METRICS["exact_match"].score(given, ["tea", "Milk "]) == expected


@pytest.mark.parametrize(
    "given,answers,expected",
    [
        ("Kitten ", ["kitten"], 1),
        ("sitting", ["kitten"], 1 - 3 / 7),  # two substitutions and an insertion
        ("abcx", ["abcd"], 0.75),
        ("abxy", ["abcd"], 0),  # exactly half is too far
        ("", ["tea"], 0),
        ("teas", ["milk", "tea", "coffee"], 0.75),  # the nearest answer counts
    ],
)
def test_anls(given, answers, expected):
    assert METRICS["anls"].score(given, answers) == pytest.approx(expected)


def test_edit_distance_is_exact_for_long_texts_with_something_missing():
    text = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 120))
    assert edit_distance(text, text[50:]) == edit_distance(text[50:], text) == 50
    assert (
        edit_distance(text, text[:40] + text[90:])
        == edit_distance(text[:40] + text[90:], text)
        == 50
    )
    assert edit_distance("", "abc") == 3 and edit_distance("", "") == 0


@pytest.mark.parametrize(
    "given,answer,expected",
    [
        ("104.9", "100", 1),
        ("95", "100", 1),
        ("105.1", "100", 0),
        ("1.05", "1", 1),  # 5 % exactly, whatever binary fractions make of it
        ("-100", "100", 0),
        ("-97", "-100", 1),
        ("1,240", "1234", 1),
        ("1,24", "124", 0),  # no thousands
        ("12%", "12.3 %", 1),
        ("12%", "0.12", 1),
        ("12%", "12", 0),
        (".5", "0.5", 1),
        ("0.0", "0", 1),
        ("0.001", "0", 0),
        ("Tea", "tea ", 1),
        ("teas", "tea", 0),
        ("$5", "5", 0),
        ("nan", "5", 0),
        ("", "0", 0),
    ],
)
def test_relaxed_accuracy(given, answer, expected):
    assert METRICS["relaxed_accuracy"].score(given, [answer]) == expected
    assert METRICS["relaxed_accuracy"].score(given, ["nothing like it", answer]) == expected


@pytest.mark.parametrize("said,expected", [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_accuracy_of_ten_is_the_mean_over_nine(said, expected):
    answers = ["red"] * said + ["blue"] * (10 - said)
    by_hand = np.mean(
        [min((answers[:left] + answers[left + 1 :]).count("red") / 3, 1) for left in range(10)]
    )
    assert (
        METRICS["vqa_accuracy"].score("red", answers)
        == pytest.approx(by_hand)
        == pytest.approx(expected)
    )


@pytest.mark.parametrize(
    "given,answer",
    [
        ("The Dog.", "dog"),
        ("two", "2"),
        ("None", "0"),
        ("1,000", "1000"),
        ("t-shirt!", "t shirt"),
        ("I don\u2019t", "i dont"),
        ("a.m.", "AM"),
        ("a cat and  the dog", "cat and dog"),
    ],
)
def test_vqa_accuracy_makes_answers_alike(given, answer):
    assert METRICS["vqa_accuracy"].score(given, [answer, "else", "other"]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "given,answer", [("1.5", "15"), ("its", "it's"), ("10:30", "1030"), ("another", "other")]
)
def test_vqa_accuracy_keeps_apart(given, answer):
    assert METRICS["vqa_accuracy"].score(given, [answer, "else", "3"]) == 0


@pytest.mark.parametrize(
    "given,expected",
    [
        ("It is 5.", 1),
        ("15", 0),
        ("3.5 litres", 0),
        ("5,000", 0),
        ("(5)", 1),
        ("The GREEN TEA.", 1),
        ("green", 0),
        ("green teas", 0),
    ],
)
def test_contains_whole_words_and_numbers(given, expected):
    assert METRICS["contains"].score(given, ["5", "green tea"]) == expected


REFERENCES = [
    ["a cat sits"],
    ["a dog runs"],
]  # `a` is in both: it weighs nothing; every other n-gram weighs log 2


@pytest.mark.parametrize(
    "given,expected",
    [
        ("A dog runs.", 10 * 3 / 4),  # no words of four
        (
            "a dog sat",
            10 * (1 / 2 + 1 / 2) / 4,
        ),  # n = 1: {dog} of {dog, sat} and {dog, runs}; n = 2: {a dog} of two and two
        ("dog", 10 * math.exp(-4 / 72) * math.sqrt(1 / 2) / 4),  # two words shorter
        ("dog dog dog", 10 / (3 * math.sqrt(2)) / 4),  # three times, counts once
        ("a a a", 0),
        ("", 0),
    ],
)
def test_cider_of_one_reference_each(given, expected):
    same, other = METRICS["cider"].scores(["a cat sits", given], REFERENCES)
    assert same == pytest.approx(7.5) and other == pytest.approx(expected)


def test_cider_is_the_mean_over_references_and_counts_questions_not_references():
    references = [["one bird", "one bird", "a cat sits"], ["a dog runs"], ["one fish"]]
    scores = METRICS["cider"].scores(["a cat sits", "", ""], references)
    assert scores[0] == pytest.approx(7.5 / 3)
    ((shared, _, _), (alone, _, _)) = (
        METRICS["cider"].scores([one, "", ""], references) for one in ("one", "bird")
    )
    rare = math.log(3)
    common = math.log(3 / 2)
    penalty = math.exp(-1 / 72)
    assert shared == pytest.approx(10 * 2 / 3 / 4 * (penalty * common / math.hypot(rare, common)))
    assert alone == pytest.approx(10 * 2 / 3 / 4 * (penalty * rare / math.hypot(rare, common)))


def test_one_score_a_question_in_order():
    assert METRICS["exact_match"].scores(["tea", "x"], [["tea"], ["milk"]]) == [1, 0]
    for metric in METRICS.values():
        with pytest.raises(ValueError, match="argument 2"):
            metric.scores(["tea", "x"], [["tea"]])


@pytest.mark.parametrize(
    "kind,answers,message",
    [
        (
            "relaxed_accuracy",
            [["tea"], ["milk", "$5"]],
            "relaxed_accuracy: .*'tea'.*take exact_match or anls",
        ),
        (
            "vqa_accuracy",
            [["tea", "milk"], ["salt"]],
            r"vqa_accuracy: .*question 2 has only \['salt'\].*take exact_match",
        ),
        ("contains", [["tea"], ["milk", " "]], "contains: .*' ' of question 2; leave it out"),
        ("cider", [["tea"]], r"cider: .*\['tea'\].*take anls"),
        ("cider", [["tea"], ["tea"]], r"cider: .*all 2 have the same.*take anls"),
    ],
)
def test_answers_that_do_not_fit_are_refused(kind, answers, message):
    with pytest.raises(ValueError, match=message):
        METRICS[kind].check(answers)


def test_answers_that_fit_are_not_refused():
    METRICS["relaxed_accuracy"].check([["tea"], ["12 %"]])
    METRICS["vqa_accuracy"].check([["tea", "milk"]] * 2)
    METRICS["contains"].check([["tea"]])
    METRICS["cider"].check([["a cat"], ["a dog"]])
    for kind in ("anls", "exact_match"):
        METRICS[kind].check([["tea"], [" "]])
