"""Fixtures of these tests."""

from __future__ import annotations

import pytest
import torch

from asymvlm.backbone import backbone_of
from asymvlm.backbone.prompt import Prompter
from asymvlm.targets import EncodedBatch


@pytest.fixture
def observed(llava, processor, page_samples):
    prompter, chosen = Prompter(processor), page_samples[::2]
    prompts = prompter(chosen)
    backbone = backbone_of(llava)
    encoded = backbone.encode(prompts.inputs)
    layout = backbone.layout(prompts.inputs, encoded)
    generator = torch.Generator().manual_seed(0)
    shares = [
        torch.rand(256, generator=generator) * (torch.rand(256, generator=generator) < 0.05)
        for _ in chosen
    ]
    answers = [prompter.answer_ids(text) for text in ("47", "left", "812")]
    return backbone, EncodedBatch(
        prompts.inputs, encoded, layout, layout.question, answers, shares, shares[::-1]
    )
