"""`with asymvlm.prune(model, scorer, keep=0.25)`: run a model on fewer vision tokens."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from transformers import PreTrainedModel

from ..backbone import backbone_of
from ..checkpoint.adapter import applied_adapter
from ..checkpoint.scorer import TrainedScorer
from ..engine import ModelHooks
from ..methods import Learned, Method
from ..selectors import Keep, check_keep
from .before_llm import BeforeLLM
from .inside_llm import InsideLLM
from .prune_stage import PruneStage
from .report import PruneReport


@contextmanager
def prune(
    model: PreTrainedModel,
    scorer: TrainedScorer | Method,
    keep: Keep = 0.25,
    adapter: bool = False,
    template_ids: Sequence[int] = (),
) -> Iterator[PruneReport]:
    """Drop vision tokens in `model(...)` and `model.generate(...)`, while open.

    Before the LLM, or before the LLM layer that a method names.

    `keep` is a share in (0, 1], a count per sample, "auto" (the scorer's budget head) or "gap" (the
    score-gap rule). What `generate` returns starts with the original prompt. Survivors keep their
    positions. With `adapter` the LoRA adapter that was trained beside the scorer is active as well.
    `template_ids` are token ids that belong to the prompt's template and not to its question, for
    methods that look at the question alone; without them, all text behind the last picture is taken
    for it.

    Raises ValueError for a bad `keep` or method, or an adapter that is not there or does not fit,
    DataError for a model that cannot be pruned. Warns if the model was not called.
    """
    check_keep(keep)
    method = Learned(scorer, adapter) if isinstance(scorer, TrainedScorer) else scorer
    if not isinstance(method, Method):
        raise ValueError(
            f"scorer: {scorer!r} is neither a scorer from asymvlm.load_scorer nor an asymvlm.Method"
        )
    if adapter and method is scorer:
        raise ValueError(
            "adapter: true goes with a scorer from asymvlm.load_scorer; a Method says so itself, "
            "Learned(scorer, adapter=True)"
        )
    backbone = backbone_of(model)
    backbone.template_ids = tuple(template_ids)
    stage = (BeforeLLM if method.layer is None else InsideLLM)(backbone, method, keep)
    stage.report.notes = method.check_model(backbone.model)
    for note in stage.report.notes:
        warnings.warn(f"asymvlm.prune: {note}", stacklevel=3)
    with (
        nullcontext() if method.adapter is None else applied_adapter(model, method.adapter),
        ModelHooks.opened(backbone, stage),
    ):
        yield stage.report
    _warn(stage)


def _warn(stage: PruneStage) -> None:
    if stage.report.unseen:
        warnings.warn(
            f"asymvlm.prune: the model's LLM was called {stage.report.unseen} times alone, "
            "so its pictures were not pruned; call the model",
            stacklevel=4,
        )
    elif not stage.called:
        warnings.warn(
            "asymvlm.prune: the model was not called inside the context, so nothing was pruned",
            stacklevel=4,
        )
