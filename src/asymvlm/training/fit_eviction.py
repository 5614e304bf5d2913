"""Fit the learned eviction rule.

`python -m asymvlm.training.fit_eviction --teacher VLM --output FILE`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import DynamicCache

from ..backbone import AttentionRecorder, recording
from ..backbone.teacher_forcing import append_answers, check_left_padded
from ..cli.command import call_from_flags, run_command
from ..cli.progress import track
from ..distillation.teacher import Teacher
from ..documents import Sample, samples
from ..documents.sources.source import DataSource
from ..errors import DataError
from ..eviction.checks import full_attention_layers
from ..eviction.policies.linear import MADE_FOR, is_linear_predictor
from ..storage.atomic import draft_file
from ..storage.weights_fingerprint import weights_fingerprint
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
    """Fit, per layer of the LLM, the most attention that anything pays to what was said from the
    question on, as a line through its value.

    The most of any head and row: a fact that one head needs once is needed. Dialogues of the
    training split; their answers are forced. A ridge regression in closed form, so no steps and no
    rate.

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
    if pages < 1:
        raise ValueError(f"pages: {pages} must be at least 1")
    target = Path(output)
    if target.exists() and not is_linear_predictor(target):
        raise ValueError(f"output: {output} is there and no fitted rule; name another file")
    side = Teacher.load(teacher)
    asked = list(samples(data.dialogues("train", pages)))
    sums: dict[int, _Sums] = {}  # by layers whose cache loses entries
    with track("what answers look at", len(asked)) as advance:
        for start in range(0, len(asked), batch_size):
            batch = asked[start : start + batch_size]
            for number, (values, mass) in _looked_at(side, batch).items():
                sums.setdefault(number, _Sums(values.shape[1])).add(values, mass)
            advance(len(batch))
    lines = torch.zeros(
        side.backbone.attending_layers, len(next(iter(sums.values())).products), dtype=torch.float64
    )
    for number, one in sums.items():
        lines[number] = one.line(ridge)
    target.parent.mkdir(parents=True, exist_ok=True)
    line = {"weight": lines[:, :-1].float().contiguous(), "bias": lines[:, -1].float().contiguous()}
    if not all(bool(one.isfinite().all()) for one in line.values()):
        raise DataError(
            f"{teacher}: its values are not finite, so no rule can be fitted; check its weights"
        )
    with draft_file(target) as draft:
        save_file(line, draft, metadata={MADE_FOR: weights_fingerprint(teacher)})
    explained = ", ".join(f"{one.explained(lines[number]):.2f}" for number, one in sums.items())
    print(
        f"{target}: {len(sums)} layers; share of the variance explained, layer by layer: "
        f"{explained}"
    )
    return target


@torch.no_grad()
def _looked_at(
    side: Teacher, batch: Sequence[Sample]
) -> dict[int, tuple[Float[Tensor, "n v"], Float[Tensor, "n"]]]:
    """By full-attention layer, values of what was said before the question, and the most that
    question and answer look at it.
    """
    prompts, backbone = side.encode_batch(batch), side.backbone
    check_left_padded(prompts.layout)
    arguments = backbone.with_pictures(dict(prompts.inputs), prompts.encoded)
    arguments["position_ids"] = backbone.positions(prompts.inputs, generating=True)
    arguments, there = append_answers(backbone, arguments, [ids[:-1] for ids in prompts.answer_ids])
    width = prompts.layout.input_ids.shape[1]
    said = _said(side, prompts, batch)
    # Behind all that was said.
    asking = (said.flip(-1).cumsum(-1).flip(-1) == 0) & prompts.layout.text
    rows = torch.cat([asking.float(), there.to(asking.device).float()], dim=1)
    said = torch.nn.functional.pad(said, (0, rows.shape[1] - width))
    recorder = AttentionRecorder(rows, said, heads="max", over_rows="max")
    cache = DynamicCache(config=side.model.config.get_text_config())
    base: Any = side.model.base_model
    with recording(side.model):
        base(**arguments, past_key_values=cache, use_cache=True, attention_recorder=recorder)
    return {
        number: (
            cache.layers[number].values.transpose(1, 2).flatten(2)[said].double(),
            recorder.layers[number][said].double(),
        )
        for number in full_attention_layers(backbone)
    }


def _said(side: Teacher, prompts: EncodedBatch, batch: Sequence[Sample]) -> Bool[Tensor, "B S"]:
    """Text of the turns before the question; padding is on the left."""
    said = prompts.layout.text.clone()
    for row, there, sample in zip(said, prompts.inputs["attention_mask"], batch, strict=True):
        ends = side.prompter.ends_of_turns(sample)
        padding = len(there) - int(there.sum())
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
            [torch.tensor(float(len(target))).double(), target.sum(), target.square().sum()]
        )

    def line(self, ridge: float) -> Float[Tensor, "w"]:
        """Weights, and the constant behind them."""
        penalty = ridge * self.squares.diagonal()[:-1].mean()
        damped = self.squares + torch.diag(
            torch.cat([penalty.expand(len(self.squares) - 1), penalty.new_zeros(1)])
        )
        return torch.linalg.solve(damped, self.products)

    def explained(self, line: Float[Tensor, "w"]) -> float:
        count, total, squares = self.target
        left = squares - 2 * line @ self.products + line @ self.squares @ line
        return float(1 - left / (squares - total**2 / count))


if __name__ == "__main__":
    sys.exit(run_command(functools.partial(call_from_flags, fit_eviction)))
