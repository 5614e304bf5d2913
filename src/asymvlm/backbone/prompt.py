"""Prompts from pictures and questions, by the model's own processor and chat template."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from .shown_part import Part, shown_part

History = Sequence[tuple[str, str]]  # turns of (user, assistant)


class PromptQuestion(Protocol):
    """A question about one or several pictures, and the turns of the dialogue that it ends."""

    @property
    def images(self) -> Sequence[Image.Image]: ...

    @property
    def question(self) -> str: ...

    @property
    def history(self) -> History: ...


@dataclass
class Prompts:
    """A left-padded batch of prompts; `Layout.question` says which rows are the question's."""

    inputs: dict[str, Tensor]


class Prompter:
    """Builds prompts for one VLM by its chat template, pictures first."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"

    def text(self, question: str, pictures: int = 1, history: History = ()) -> str:
        """Write the prompt up to where the answer starts; pictures belong to the first turn."""
        messages = _messages(question, [{"type": "image"}] * pictures, history)
        return self.processor.apply_chat_template(messages, add_generation_prompt=True)

    def __call__(self, questions: Sequence[PromptQuestion]) -> Prompts:
        return Prompts(dict(self._processed(questions)))

    def _processed(self, questions: Sequence[PromptQuestion]) -> Any:
        chats = []
        for item in questions:
            pictures = [{"type": "image", "image": image} for image in item.images]
            chats.append(_messages(item.question, pictures, item.history))
        return self.processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            **_padded(self.processor),
        )

    def ends_of_turns(self, question: PromptQuestion) -> list[int]:
        """Find where each turn of the history ends in the prompt, template included.

        Prompts of the same dialogue with another next question are alike up to there.
        """
        whole = self([question]).inputs["input_ids"][0]
        others = [
            _Cut(question.images, _OTHER, question.history[:count])
            for count in range(1, len(question.history) + 1)
        ]
        return [_alike(whole, self([other]).inputs["input_ids"][0]) for other in others]

    def answer_ids(self, answer: str) -> Tensor:
        """Tokenize an answer as it follows the prompt, with the end of text."""
        ids = self.tokenizer(answer, add_special_tokens=False).input_ids
        return torch.tensor([*ids, self.tokenizer.eos_token_id])

    def shown_part(self, size: tuple[int, int]) -> Part:
        """Compute what the tower is shown of a picture of (width, height), in its pixels."""
        return shown_part(getattr(self.processor, "image_processor", None), size)

    def decode(self, ids: Tensor) -> list[str]:
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    @cached_property
    def masked_ids(self) -> tuple[int, ...]:
        """Special token ids, and all that the template writes around an empty question."""
        ids = set(self.tokenizer.all_special_ids)
        ids.update(self.tokenizer(self.text(""), add_special_tokens=False).input_ids)
        image = self.tokenizer.convert_tokens_to_ids(
            str(getattr(self.processor, "image_token", "<image>"))
        )  # some are AddedTokens
        return tuple(sorted({*ids, image} - {None}))


def _padded(processor: Any) -> dict[str, Any]:
    """Arguments of `apply_chat_template` for padding, which newer versions take in a dict."""
    known = inspect.signature(processor.apply_chat_template).parameters
    return (
        {"processor_kwargs": {"padding": True}}
        if "processor_kwargs" in known
        else {"padding": True}
    )


def _messages(
    question: str, pictures: list[dict[str, Any]], history: History = ()
) -> list[dict[str, Any]]:
    """A chat in the form of transformers; pictures belong to its first turn."""
    said = [*(part for turn in history for part in turn), question]
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": [{"type": "text", "text": text}]}
        for number, text in enumerate(said)
    ]
    messages[0]["content"] = [*pictures, *messages[0]["content"]]
    return messages


@dataclass(frozen=True)
class _Cut:
    """A dialogue's first turns, with another question after them."""

    images: Sequence[Image.Image]
    question: str
    history: History


_OTHER = "#"  # no question begins like this


def _alike(first: Tensor, second: Tensor) -> int:
    length = min(len(first), len(second))
    differs = (first[:length] != second[:length]).nonzero()
    return int(differs[0]) if len(differs) else length


class PlainPrompter(Prompter):
    """For processors that put the picture first themselves (BLIP-2, arXiv 2301.12597)."""

    def text(self, question: str, pictures: int = 1, history: History = ()) -> str:
        if pictures != 1:
            raise ValueError(
                f"images: {type(self.processor).__name__} takes one picture a question, here are "
                f"{pictures}"
            )
        said = "".join(f"Question: {user} Answer: {assistant}. " for user, assistant in history)
        return f"{said}Question: {question} Answer:"

    def _processed(self, questions: Sequence[PromptQuestion]) -> Any:
        texts = [self.text(item.question, len(item.images), item.history) for item in questions]
        return self.processor(
            images=[item.images[0] for item in questions],
            text=texts,
            return_tensors="pt",
            padding=True,
        )


class InterleavedPrompter(Prompter):
    """For Idefics v1, whose processor takes words and pictures in one list."""

    def text(self, question: str, pictures: int = 1, history: History = ()) -> str:
        said = "".join(f"{user}\nAssistant: {assistant}\nUser:" for user, assistant in history)
        return f"{said}{question}\nAssistant:"

    def _processed(self, questions: Sequence[PromptQuestion]) -> Any:
        prompts = [
            ["User:", *item.images, self.text(item.question, history=item.history)]
            for item in questions
        ]
        return self.processor(
            text=prompts, return_tensors="pt", padding=True, add_special_tokens=False
        )

    @cached_property
    def masked_ids(self) -> tuple[int, ...]:
        user = self.tokenizer("User:", add_special_tokens=False).input_ids
        return tuple(sorted({*super().masked_ids, *user}))


_BY_PROCESSOR: dict[str, type[Prompter]] = {"IdeficsProcessor": InterleavedPrompter}


def prompter_for(processor: Any) -> Prompter:
    """Choose the prompter that fits a processor."""
    templated = getattr(processor, "chat_template", None) or getattr(
        processor.tokenizer, "chat_template", None
    )
    return _BY_PROCESSOR.get(type(processor).__name__, Prompter if templated else PlainPrompter)(
        processor
    )
