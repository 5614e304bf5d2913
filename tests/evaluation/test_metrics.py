"""What all answer metrics have in common; the values of each are in `metrics/`."""

from __future__ import annotations

import pytest

from asymvlm.evaluation.metrics import answer_metrics

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
        (
            "vqa_accuracy",
            [["The tea"] * 2, ["Two", "one of them"]],
            r"vqa_accuracy: .*\['The tea', 'The tea'\].*take exact_match",
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
    METRICS["vqa_accuracy"].check([["The tea", "TEA"], ["tea", "The tea"]])
    METRICS["contains"].check([["tea"]])
    METRICS["cider"].check([["a cat"], ["a dog"]])
    for kind in ("anls", "exact_match"):
        METRICS[kind].check([["tea"], [" "]])
