"""A transformers pipeline whose calls are pruned."""

from __future__ import annotations

from typing import Any

from transformers import ImageTextToTextPipeline

from ..checkpoint.scorer import TrainedScorer
from ..methods import Method
from ..selectors import Keep, check_keep
from .prune import prune


def pruned_pipeline(
    scorer: TrainedScorer | Method, keep: Keep = 0.25
) -> type[ImageTextToTextPipeline]:
    """Make a pipeline class with every call inside `prune`.

    `pipeline("image-text-to-text", ..., pipeline_class=asymvlm.pruned_pipeline(scorer,
    keep=0.25))`; `keep` is a share, a count, "auto" or "gap".

    Raises ValueError for a bad `keep`. The pipeline's `report` is that of its newest call.
    """
    check_keep(keep)

    class PrunedPipeline(ImageTextToTextPipeline):
        report: Any = None

        def _forward(  # type: ignore[override]
            self, model_inputs: Any, generate_kwargs: Any = None
        ) -> Any:
            with prune(self.model, scorer, keep) as report:
                output = super()._forward(model_inputs, generate_kwargs)
            self.report = report
            return output

    return PrunedPipeline
