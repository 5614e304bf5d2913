"""Evaluations as functions take what their classes take."""

from __future__ import annotations

import inspect
import typing

import pytest

from asymvlm.evaluation.as_function import as_function
from asymvlm.evaluation.evaluate import Evaluation, evaluate
from asymvlm.evaluation.evaluate_eviction import EvictionEvaluation, evaluate_eviction
from asymvlm.evaluation.robustness.robustness import RobustnessEvaluation, robustness

FUNCTIONS = {
    evaluate: Evaluation, evaluate_eviction: EvictionEvaluation, robustness: RobustnessEvaluation
}  # fmt: skip


@pytest.mark.parametrize("function,evaluation", FUNCTIONS.items())
def test_the_signature_has_every_setting_with_its_type(function, evaluation):
    own = inspect.signature(function).parameters
    assert list(own) == list(typing.get_type_hints(evaluation))
    assert all(each.annotation is not inspect.Parameter.empty for each in own.values())
    assert function.__doc__ == evaluation.__doc__ and function.__name__ in vars(
        inspect.getmodule(evaluation)
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_another_setting_is_refused(function):
    with pytest.raises(TypeError, match="unexpected keyword argument 'page'"):
        function(page=1)


def test_settings_reach_the_evaluation():
    class Sum:
        def __init__(self, first: int, second: int = 2) -> None:
            self.terms = first, second

        def run(self) -> int:
            return sum(self.terms)

    assert as_function("add", Sum)(1) == 3 and as_function("add", Sum)(1, second=4) == 5
