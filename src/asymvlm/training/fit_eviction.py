"""Fit the learned eviction rule.

`python -m asymvlm.training.fit_eviction --teacher VLM --output FILE`.
"""

from __future__ import annotations

import sys

from ..cli.door import enter

# Before the imports that take seconds: help and signals do not wait for them.
if __name__ == "__main__":
    sys.exit(enter("fit-eviction"))

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import DynamicCache

from ..backbone import AttentionRecorder
from ..backbone.teacher_forcing import append_answers, check_left_padded
from ..cli.command import call_from_flags, run_command
from ..cli.progress import track
from ..distillation.teacher import Teacher
from ..documents import Sample, samples
from ..documents.sources.source import DataSource, as_data_flags
from ..engine import attends_through_stages
from ..errors import DataError
from ..eviction.checks import full_attention_layers
from ..eviction.policies.linear import MADE_FOR, SKETCH, is_linear_predictor
from ..limits import check_at_least
from ..storage.atomic import draft_file
from ..storage.weight_sketch import sketch_of_model
from ..storage.weights_fingerprint import weights_fingerprint
from ..storage.writable import check_writable
from ..targets import EncodedBatch
from ..typing import Bool, Float


def fit_eviction(
    teacher: str = "checkpoints/tiny-teacher",
    output: str = "checkpoints/tiny/text-scores.safetensors",
    data: DataSource = DataSource(),  # noqa: B008 - nobody changes it
    pages: int = 384,
    batch_size: int = 12,
    ridge: float = 1e-3,
) -> Path:
    """Fit a linear predictor of future attention from value vectors, layer by layer.

    The attention is the largest that any head and row of question and answer pays to a token: a
    fact that one head needs once is needed. Dialogues of the training split, with their answers
    appended. A ridge regression in closed form, so no steps and no learning rate.

    Args:
        teacher: Directory or repository of the VLM.
        output: The file that `asymvlm.eviction.policies.linear.LinearEvictor` reads.
        data: Where dialogues come from: questions with a `history`; generated ones if no path is
            given.
        pages: Generated dialogues; three questions end each.
        batch_size: Samples per forward pass.
        ridge: Penalty on the weights, as a share of the mean square of the values.

    Raises DataError for a model without full self-attention over its vision tokens, ValueError for
    no dialogues.
    """
    check_at_least(1, {"pages": pages, "batch_size": batch_size})
    check_at_least(0, {"ridge": ridge})
    target = _checked_output(output)
    with as_data_flags():
        data.check()
        data.check_root()
    vlm = Teacher.load(teacher)
    with as_data_flags():
        dialogues, skipped = data.dialogues("train", pages)
    questions = list(samples(dialogues, report=skipped))
    for line in skipped.lines():
        print(f"data.path: {line}")
    sums = _accumulate(vlm, questions, batch_size)
    size = len(next(iter(sums.values())).products)
    predictors = torch.zeros(vlm.backbone.attending_layers, size, dtype=torch.float64)
    for layer, layer_sums in sums.items():
        predictors[layer] = layer_sums.solve(ridge)
    if not bool(predictors.isfinite().all()):
        raise DataError(
            f"{teacher}: its values are not finite, so no rule can be fitted; check its weights"
        )
    made_for = {MADE_FOR: weights_fingerprint(teacher), SKETCH: sketch_of_model(vlm.model)}
    _save(predictors, target, made_for)
    explained = [f"{each.explained(predictors[layer]):.2f}" for layer, each in sums.items()]
    print(
        f"{target}: {len(sums)} layers; share of the variance explained, layer by layer: "
        f"{', '.join(explained)}"
    )
    return target


def _checked_output(output: str) -> Path:
    target = Path(output)
    if target.exists() and not is_linear_predictor(target):
        raise ValueError(f"output: {output} is there and no fitted rule; name another file")
    check_writable(target.parent, "--output")
    return target


def _save(predictors: Float[Tensor, "layers v+1"], file: Path, made_for: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "weight": predictors[:, :-1].float().contiguous(),
        "bias": predictors[:, -1].float().contiguous(),
    }
    with draft_file(file) as draft:
        save_file(tensors, draft, metadata=made_for)


def _accumulate(vlm: Teacher, questions: Sequence[Sample], batch_size: int) -> dict[int, _Sums]:
    """Normal equations of every layer whose cache evicts."""
    sums: dict[int, _Sums] = {}
    with track("attention of questions and answers", len(questions)) as advance:
        for start in range(0, len(questions), batch_size):
            batch = questions[start : start + batch_size]
            for layer, (values, attention) in _values_and_attention(vlm, batch).items():
                sums.setdefault(layer, _Sums(values.shape[1])).add(values, attention)
            advance(len(batch))
    return sums


@torch.no_grad()
def _values_and_attention(
    vlm: Teacher, batch: Sequence[Sample]
) -> dict[int, tuple[Float[Tensor, "n v"], Float[Tensor, "n"]]]:
    """Values of the turns before the question, and the most attention paid to them, by layer.

    Of full-attention layers, from the rows of question and answer.
    """
    prompts, backbone = vlm.encode_batch(batch), vlm.backbone
    check_left_padded(prompts.layout)
    arguments = backbone.with_pictures(dict(prompts.inputs), prompts.encoded)
    arguments["position_ids"] = backbone.positions(prompts.inputs, generating=True)
    answers = [ids[:-1] for ids in prompts.answer_ids]
    arguments, tail_mask = append_answers(backbone, arguments, answers)
    width = prompts.layout.input_ids.shape[1]
    said = _said(vlm, prompts, batch)
    # Behind all that was said.
    asking = (said.flip(-1).cumsum(-1).flip(-1) == 0) & prompts.layout.text
    rows = torch.cat([asking.float(), tail_mask.to(asking.device).float()], dim=1)
    said = torch.nn.functional.pad(said, (0, rows.shape[1] - width))
    recorder = AttentionRecorder(rows, said, heads="max", over_rows="max")
    cache = DynamicCache(config=vlm.model.config.get_text_config())
    base: Any = vlm.model.base_model
    with attends_through_stages(vlm.model):
        base(**arguments, past_key_values=cache, use_cache=True, attention_stage=recorder)
    return {
        number: (
            cache.layers[number].values.transpose(1, 2).flatten(2)[said].double(),
            recorder.layers[number][said].double(),
        )
        for number in full_attention_layers(backbone)
    }


def _said(vlm: Teacher, prompts: EncodedBatch, batch: Sequence[Sample]) -> Bool[Tensor, "B S"]:
    """Text of the turns before the question; padding is on the left."""
    said = prompts.layout.text.clone()
    for row, mask, sample in zip(said, prompts.inputs["attention_mask"], batch, strict=True):
        ends = vlm.prompter.ends_of_turns(sample)
        padding = len(mask) - int(mask.sum())
        row[padding + ends[-1] if ends else 0 :] = False
    return said


class _Sums:
    """Normal equations of one layer's regression."""

    def __init__(self, width: int) -> None:
        self.squares = torch.zeros(width + 1, width + 1, dtype=torch.float64)
        self.products = torch.zeros(width + 1, dtype=torch.float64)
        self.target = torch.zeros(3, dtype=torch.float64)  # count, sum, sum of squares

    def add(self, values: Float[Tensor, "n v"], target: Float[Tensor, "n"]) -> None:
        rows = torch.nn.functional.pad(values, (0, 1), value=1.0).cpu()
        target = target.cpu()
        self.squares += rows.T @ rows
        self.products += rows.T @ target
        self.target += torch.stack(
            [
                torch.tensor(float(len(target))).double(),
                target.sum(),
                target.square().sum(),
            ]
        )

    def solve(self, ridge: float) -> Float[Tensor, "w"]:
        """Solve for the weights, with the bias behind them."""
        penalty = ridge * self.squares.diagonal()[:-1].mean()
        damped = self.squares + torch.diag(
            torch.cat([penalty.expand(len(self.squares) - 1), penalty.new_zeros(1)])
        )
        return torch.linalg.solve(damped, self.products)

    def explained(self, predictor: Float[Tensor, "w"]) -> float:
        count, total, squares = self.target
        left = squares - 2 * predictor @ self.products + predictor @ self.squares @ predictor
        return float(1 - left / (squares - total**2 / count))


def main(arguments: list[str] | None = None, owns_process: bool | None = None) -> int:
    """Fit; returns the exit code."""
    command = functools.partial(call_from_flags, fit_eviction, command="fit-eviction")
    return run_command(command, arguments, owns_process)
