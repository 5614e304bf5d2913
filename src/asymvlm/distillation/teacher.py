"""The frozen teacher: from questions to targets and inputs of a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from ..backbone import backbone_of
from ..backbone.processor import load_processor
from ..backbone.prompt import Prompter, prompter_for
from ..cli.configs import find_model
from ..documents import Sample
from ..documents.cells import lies_on_page, token_shares
from ..documents.sample import Box
from ..errors import DataError, renamed_arguments
from ..storage.fingerprint import describe_model, describe_processor
from ..storage.loading import UNLOADABLE, reason_of
from ..targets import EncodedBatch, Target, dense_answer_shares
from ..typing import Float, Int64
from .sample import DistillationSample


class Teacher:
    """A frozen VLM with its processor.

    No nn.Module, so that no checkpoint and no DDP wrapper ever holds it.
    """

    def __init__(self, model: PreTrainedModel, prompter: Prompter, name: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        self.backbone = backbone_of(model)
        self.prompter = prompter
        self.backbone.template_ids = prompter.masked_ids
        self.name = name or str(getattr(model, "name_or_path", ""))

    @classmethod
    def load(
        cls, path: str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> Teacher:
        """Load from a directory or a Hugging Face repository.

        Raises DataError where that is no vision-language model.
        """
        path = find_model(path)
        vlm_hidden_size(path)
        with renamed_arguments({"path": "teacher"}):
            prompter = load_prompter(path)
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                path, dtype=dtype or "auto", trust_remote_code=False
            )
        except UNLOADABLE as error:
            raise DataError(f"teacher: {path} could not be loaded ({reason_of(error)})") from error
        if dtype is None and torch.device(device).type == "cpu":
            model = model.float()  # half precision is stored to save space; a CPU computes in fp32
        return cls(model.to(device), prompter, path)  # type: ignore[arg-type]

    def description(self) -> dict[str, Any]:
        """Describe all that its answers depend on.

        The model as it is in memory, and its processor.
        """
        return describe_model(self.model) | describe_processor(self.prompter.processor)

    def inputs(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Build the model's arguments for a batch of questions, on its device."""
        return self._on_device(self.prompter(samples).inputs)

    def token_shares(
        self, sample: Sample, boxes: Sequence[Box], grid: Int64[Tensor, "n 3"]
    ) -> Float[Tensor, "n"]:
        """Share of each vision token's cell in `boxes`, in what its tower is shown of the page."""
        return token_shares(sample, boxes, grid, self.prompter.shown_part(sample.image.size))

    def _on_device(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.model.device) for name, value in inputs.items()}

    @torch.no_grad()
    def encode_batch(self, samples: Sequence[Sample]) -> EncodedBatch:
        """Encode the prompts and pictures of a batch, with what is known of the answers."""
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
            answer_ids=[
                self.prompter.answer_ids(sample.answers[0]).to(device) for sample in samples
            ],
            evidence=[
                self.token_shares(sample, sample.evidence_boxes, grid.cpu()).to(device)
                for sample, grid in pairs
            ],
            key_boxes=[
                self.token_shares(sample, sample.key_boxes, grid.cpu()).to(device)
                for sample, grid in pairs
            ],
        )

    def observe(
        self,
        samples: Sequence[Sample],
        target: Target,
        ladder: Sequence[float] | None = None,
    ) -> list[DistillationSample]:
        """Run the teacher over a batch of questions.

        One forward pass, and one generation per keep ratio of `ladder`.
        """
        batch = self.encode_batch(samples)
        importances = self.importances(samples, batch, target)
        shares = torch.full((len(samples),), torch.nan)
        if ladder is not None:
            shares = dense_answer_shares(self.backbone, batch, importances, list(ladder))
        return self.distillation_samples(batch, importances, shares)

    @torch.no_grad()
    def importances(
        self, samples: Sequence[Sample], batch: EncodedBatch, target: Target
    ) -> list[Float[Tensor, "n"]]:
        """Ask a target about a batch that `encode_batch` made.

        Raises DataError for boxes that it needs and that cannot be laid on the tokens.
        """
        pairs = zip(samples, batch.layout.grids, strict=True) if target.needs_boxes else ()
        lost = [
            sample.id
            for sample, grid in pairs
            if sample.evidence_boxes and not lies_on_page(sample, grid)
        ]
        if lost:
            raise DataError(
                f"target: boxes of {lost[0]} cannot be laid on the tokens of "
                f"{type(self.model).__name__}, which cuts pictures into "
                "tiles or resamples them; use AttentionTarget"
            )
        return target(self.backbone, batch)

    @torch.no_grad()
    def distillation_samples(
        self,
        batch: EncodedBatch,
        importances: Sequence[Float[Tensor, "n"]],
        dense_answer_shares: Float[Tensor, "B"],
    ) -> list[DistillationSample]:
        """Collect a scorer's inputs and labels for each sample of a batch."""
        assert batch.evidence is not None and batch.key_boxes is not None
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
                key_boxes=batch.key_boxes[index],
                dense_answer_share=dense_answer_shares[index : index + 1],
            )
            for index in range(len(layout.grids))
        ]


def load_prompter(path: str) -> Prompter:
    """Load the processor at `path` as a prompter.

    Raises DataError where there is none.
    """
    return prompter_for(load_processor(path))


def vlm_hidden_size(path: str) -> int:
    """Read the LLM's hidden size of the VLM at `path` from its config alone.

    Raises DataError where there is none.
    """
    path = find_model(path)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except UNLOADABLE as error:
        raise DataError(
            f"teacher: {path} holds no model ({reason_of(error)}); give a VLM's directory or "
            "repository"
        ) from error
    if getattr(config, "vision_config", None) is None:
        raise DataError(
            f"teacher: {path} is a {config.model_type}, which is no vision-language model"
        )
    return int(config.get_text_config().hidden_size)
