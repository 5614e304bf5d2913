"""The frozen teacher: from samples to what a scorer learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from ..backbone import backbone_of
from ..backbone.processor import load_processor
from ..backbone.prompt import Prompter, prompter_for
from ..documents import Sample
from ..documents.cells import lies_on_page, token_shares
from ..errors import DataError
from ..storage.fingerprint import describe_model, describe_processor
from ..targets import Target, EncodedBatch, dense_answer_shares
from ..typing import Bool, Float, Int64


@dataclass
class DistillationSample:
    """What the teacher says of one sample. n vision tokens, L text tokens."""

    vision: Float[Tensor, "n D"]
    text: Float[Tensor, "L D"]
    text_mask: Bool[Tensor, "L"]
    grid: Int64[Tensor, "n 3"]
    importance: Float[Tensor, "n"]
    evidence: Float[Tensor, "n"]  # share of the cell in an evidence box; all zero where the data has none
    keys: Float[Tensor, "n"]
    dense_answer_share: Float[Tensor, "1"]  # share of tokens at which the dense answer stays; NaN where the teacher was not asked


class Teacher:
    """A frozen VLM with its processor. No nn.Module, so that no checkpoint and no DDP wrapper ever holds it."""

    def __init__(self, model: PreTrainedModel, prompter: Prompter, name: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        self.backbone = backbone_of(model)
        self.prompter = prompter
        self.backbone.template_ids = prompter.masked_ids
        self.name = name or str(getattr(model, "name_or_path", ""))

    @classmethod
    def load(cls, path: str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Teacher:
        """From a directory or a Hugging Face repository. Raises DataError where that is no vision-language model."""
        vlm_hidden_size(path)
        prompter = load_prompter(path)
        try:
            model = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype or "auto")
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"model.teacher: {path} could not be loaded ({error})") from error
        if dtype is None and torch.device(device).type == "cpu":
            model = model.float()  # half precision is stored to save space; a CPU computes in fp32
        return cls(model.to(device), prompter, path)  # type: ignore[arg-type]

    def description(self) -> dict[str, Any]:
        """All that its answers depend on, as `fingerprint` puts it: the model as it is in memory, and its processor."""
        return describe_model(self.model) | describe_processor(self.prompter.processor)

    def inputs(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """The model's own arguments for a batch of samples, where the model is."""
        return self._there(self.prompter(samples).inputs)

    def _there(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.model.device) for name, value in inputs.items()}

    @torch.no_grad()
    def encode_batch(self, samples: Sequence[Sample]) -> EncodedBatch:
        """Prompts of a batch of samples with their pictures encoded, and all that is known of the answers."""
        inputs = self.inputs(samples)
        encoded = self.backbone.encode(inputs)
        layout = self.backbone.layout(inputs, encoded)
        pairs = list(zip(samples, layout.grids, strict=True))
        device = self.model.device
        return EncodedBatch(
            inputs=inputs,
            encoded=encoded,
            layout=layout,
            text_mask=layout.question,
            answer_ids=[self.prompter.answer_ids(sample.answers[0]).to(device) for sample in samples],
            evidence=[token_shares(sample, sample.evidence_boxes, grid.cpu()).to(device) for sample, grid in pairs],
            keys=[token_shares(sample, sample.key_boxes, grid.cpu()).to(device) for sample, grid in pairs],
        )

    def observe(self, samples: Sequence[Sample], target: Target, ladder: list[float] | None = None) -> list[DistillationSample]:
        """One forward pass of the teacher over a batch of samples, and one generation per share of `ladder`, if given."""
        batch = self.encode_batch(samples)
        importances = self.importances(samples, batch, target)
        enough = torch.full((len(samples),), torch.nan)
        if ladder is not None:
            enough = dense_answer_shares(self.backbone, batch, importances, ladder)
        return self.observations(batch, importances, enough)

    @torch.no_grad()
    def importances(self, samples: Sequence[Sample], batch: EncodedBatch, target: Target) -> list[Float[Tensor, "n"]]:
        """What a target says of samples that `look` has made a batch of. Raises DataError for boxes that it needs and nobody can lay."""
        pairs = zip(samples, batch.layout.grids, strict=True) if target.needs_boxes else ()
        lost = [sample.id for sample, grid in pairs if sample.evidence_boxes and not lies_on_page(sample, grid)]
        if lost:
            raise DataError(
                f"model.target: boxes of {lost[0]} cannot be laid on the tokens of {type(self.model).__name__}, which cuts pictures into "
                "tiles or resamples them; use AttentionTarget"
            )
        return target(self.backbone, batch)

    @torch.no_grad()
    def observations(self, batch: EncodedBatch, importances: Sequence[Float[Tensor, "n"]], enough: Float[Tensor, "B"]) -> list[DistillationSample]:
        """What a scorer sees of each sample of a batch, with what it may learn from."""
        assert batch.evidence is not None and batch.keys is not None
        layout = batch.layout
        masked = torch.tensor(self.prompter.masked_ids, device=self.model.device)
        vision = batch.encoded.rows.split(layout.counts())
        ids = [row[text] for row, text in zip(layout.input_ids, layout.text, strict=True)]
        return [
            DistillationSample(
                vision=vision[index],
                text=self.backbone.embed_text(ids[index]),
                text_mask=~torch.isin(ids[index], masked),
                grid=layout.grids[index],
                importance=importances[index],
                evidence=batch.evidence[index],
                keys=batch.keys[index],
                dense_answer_share=enough[index : index + 1],
            )
            for index in range(len(layout.grids))
        ]


def load_prompter(path: str) -> Prompter:
    """The processor at `path`, as a prompter. Raises DataError where there is none."""
    return prompter_for(load_processor(path))


def vlm_hidden_size(path: str) -> int:
    """The width of the VLM at `path`, from its config alone. Raises DataError where there is none."""
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"model.teacher: {path} holds no model ({reason}); give a VLM's directory or repository") from error
    if getattr(config, "vision_config", None) is None:
        raise DataError(f"model.teacher: {path} is a {config.model_type}, which is no vision-language model")
    return int(config.get_text_config().hidden_size)


def to_record(observation: DistillationSample) -> dict[str, bytes]:
    """Flat bytes for a `datasets` cache; halves where a half is enough."""
    record = {}
    for field in fields(observation):
        value: Tensor = getattr(observation, field.name).cpu()
        record[field.name] = value.to(_STORED[field.name]).numpy().tobytes()
    return record


def from_record(record: dict[str, bytes]) -> DistillationSample:
    """The inverse of `to_record`, in fp32."""
    arrays: dict[str, np.ndarray] = {name: np.frombuffer(record[name], dtype=_NUMPY[dtype]) for name, dtype in _STORED.items()}
    grid = arrays["grid"].reshape(-1, 3)
    width = len(arrays["vision"]) // max(1, len(grid))
    return DistillationSample(
        vision=_tensor(arrays["vision"].reshape(len(grid), width)).float(),
        text=_tensor(arrays["text"].reshape(-1, width)).float(),
        text_mask=_tensor(arrays["text_mask"]),
        grid=_tensor(grid).long(),
        importance=_tensor(arrays["importance"]),
        evidence=_tensor(arrays["evidence"]).float(),
        keys=_tensor(arrays["keys"]).float(),
        dense_answer_share=_tensor(arrays["dense_answer_share"]),
    )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())  # a buffer from disk is read-only


_STORED = {
    "vision": torch.float16,
    "text": torch.float16,
    "text_mask": torch.bool,
    "grid": torch.int32,
    "importance": torch.float32,
    "evidence": torch.float16,
    "keys": torch.float16,
    "dense_answer_share": torch.float32,
}
_NUMPY = {torch.float16: np.float16, torch.float32: np.float32, torch.bool: np.bool_, torch.int32: np.int32}
