"""From pictures and questions to a model's inputs, by its own processor and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .shapes import Bool


@dataclass
class Prompts:
    """A left-padded batch of prompts."""

    inputs: dict[str, Tensor]
    question: Bool[Tensor, "B S"]  # True on the question's own tokens


class Prompter:
    """Builds prompts for one VLM. Asks one question about one picture (or several) per sample."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"

    def text(self, question: str, pictures: int = 1) -> str:
        """The prompt as text, up to where the answer starts."""
        content = [{"type": "image"}] * pictures + [{"type": "text", "text": question}]
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def __call__(self, images: Sequence[Image.Image], questions: Sequence[str]) -> Prompts:
        texts = [self.text(question) for question in questions]
        inputs = self.processor(
            images=[[image] for image in images], text=texts, return_tensors="pt", padding=True, add_special_tokens=False
        )
        masked = torch.tensor(self.masked_ids)
        question = inputs["attention_mask"].bool() & ~torch.isin(inputs["input_ids"], masked)
        return Prompts(dict(inputs), question)

    def answer_ids(self, answer: str) -> Tensor:
        """Tokens of an answer as it follows the prompt, with the end of text."""
        ids = self.tokenizer(answer, add_special_tokens=False).input_ids
        return torch.tensor([*ids, self.tokenizer.eos_token_id])

    def decode(self, ids: Tensor) -> list[str]:
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    @cached_property
    def masked_ids(self) -> tuple[int, ...]:
        """Ids that say nothing of the question: special ones, and all that the template writes around an empty question."""
        ids = set(self.tokenizer.all_special_ids)
        ids.update(self.tokenizer(self.text(""), add_special_tokens=False).input_ids)
        image = self.tokenizer.convert_tokens_to_ids(getattr(self.processor, "image_token", "<image>"))
        return tuple(sorted({*ids, image} - {None}))
