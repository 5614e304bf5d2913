"""Many questions about one page in one sequence; each sees only the page and itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..documents.cells import box_shares
from ..documents.sample import Box
from ..documents.world.dialogues import Difficulty, dialogue
from ..documents.world.page import Field, Page, Question
from ..documents.world.questions import ask
from .tokens import IMAGE_TOKEN

_TOUCHES = 0.04  # share of a cell above which a box needs it


def cells(boxes: Sequence[Box], page: Page, patch: int) -> np.ndarray:
    """Indices of the vision tokens that `boxes` touch."""
    if not boxes:
        return np.zeros(0, np.int64)
    rows = page.size // patch
    share = np.stack([box_shares(box, (page.size, page.size), (rows, rows)) for box in boxes]).sum(
        0
    )
    return np.flatnonzero(share > _TOUCHES)


@dataclass
class Reading:
    """One page with some of its vision tokens and some questions, to be read by the LLM alone.

    Where the questions have a history, it is one and the same.
    """

    page: int  # row in the table of features
    tokens: np.ndarray  # kept vision tokens, ascending
    questions: list[Question]


def easy_reading(
    row: int,
    page: Page,
    rng: np.random.Generator,
    fields: int,
    tokens: int,
    questions: int,
    patch: int,
) -> Reading:
    """Questions about a page cut down to a few fields."""
    part, kept = _cut(page, rng, fields, tokens, patch)
    # With one entry left, "which is largest" and "which half" teach nothing.
    holistic = questions // 2 if fields > 3 else int(rng.random() < 0.3)
    chosen = ask(part, rng, questions - min(holistic, questions - 1), min(holistic, questions - 1))
    return Reading(row, kept, chosen[:questions])


def talking_reading(
    row: int,
    page: Page,
    rng: np.random.Generator,
    difficulty: Difficulty,
    fields: int,
    tokens: int,
    questions: tuple[int, int, int],
    patch: int,
) -> Reading:
    """A dialogue about a page cut down to a few fields, and questions that end it.

    With no vision tokens there is no page.
    """
    part, kept = _cut(page, rng, fields, tokens, patch)
    return Reading(row, kept, dialogue(part, rng, difficulty, *questions))


def _cut(
    page: Page, rng: np.random.Generator, fields: int, tokens: int, patch: int
) -> tuple[Page, np.ndarray]:
    """The page with a few of its fields, and their cells with blank ones, as if nothing else were
    printed.
    """
    if fields >= len(page.fields):
        part = page
    else:
        chosen = rng.permutation(len(page.fields))[:fields]
        part = replace(page, fields=tuple(page.fields[index] for index in sorted(chosen)))
    hidden = [box for field in page.fields if field not in part.fields for box in _boxes(field)]
    shown = cells([box for field in part.fields for box in _boxes(field)], page, patch)
    blank = np.setdiff1d(
        np.arange((page.size // patch) ** 2), np.union1d(shown, cells(hidden, page, patch))
    )
    return part, _fill(shown, blank, tokens, rng)


def sparse_reading(
    row: int, page: Page, rng: np.random.Generator, tokens: int, questions: int, patch: int
) -> Reading:
    """A whole page of which a few tokens are left: all evidence, and others at random."""
    kept = np.zeros(0, np.int64)
    chosen: list[Question] = []
    for question in ask(page, rng, questions, max(1, questions // 2)):
        with_it = np.union1d(kept, cells(question.evidence_boxes + question.key_boxes, page, patch))
        if len(with_it) <= tokens and len(chosen) < questions:
            kept, chosen = with_it, [*chosen, question]
    others = np.setdiff1d(np.arange((page.size // patch) ** 2), kept)
    return Reading(row, _fill(kept, others, tokens, rng), chosen)


def _boxes(field: Field) -> list[Box]:
    return [box for box in (field.name_box, field.value_box, field.column_box) if box is not None]


def _fill(
    needed: np.ndarray, others: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    needed = rng.permutation(needed)[:count]
    return np.sort(np.concatenate([needed, rng.permutation(others)[: count - len(needed)]]))


@dataclass
class BlockBatch:
    """Readings as one LLM batch, right-padded.

    S = prefix + K vision tokens + what was said before + all question blocks.
    """

    input_ids: Int64[Tensor, "B S"]
    position_ids: Int64[Tensor, "B S"]
    mask: Bool[Tensor, "B 1 S S"]
    labels: Int64[Tensor, "B S"]  # the next token where it belongs to an answer, else -100
    tokens: Int64[Tensor, "B K"]
    pages: Int64[Tensor, "B"]
    prefix: int  # where the vision tokens start


class BlockBuilder:
    """Turns readings into batches with the teacher's own tokens, positions and chat format."""

    def __init__(self, tokenizer: Any, vision_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.vision_tokens = vision_tokens
        hole = {"type": "text", "text": "\x00"}
        turns = [("user", [{"type": "image"}, hole]), ("assistant", [hole]), ("user", [hole])]
        template = [{"role": role, "content": content} for role, content in turns]
        whole = tokenizer.apply_chat_template(template, tokenize=False, add_generation_prompt=True)
        before, after = whole.split(IMAGE_TOKEN)
        self.head, self.tail, again, _ = after.split("\x00")
        # Between a reply's end and what the user says next.
        self.again = again.removeprefix(tokenizer.eos_token)
        self.prefix = self._ids(before)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _turn(self, before: str, user: str, assistant: str) -> tuple[list[int], list[int]]:
        """Tokenize a turn up to the reply's last token; returns what follows in the reply too."""
        prompt, reply = self._ids(before + user + self.tail), self._ids(assistant)
        return prompt + reply, [-100] * (len(prompt) - 1) + reply + [self.tokenizer.eos_token_id]

    def said(self, history: Sequence[tuple[str, str]]) -> list[int]:
        """Build what all questions of a dialogue see of it."""
        ids: list[int] = []
        for number, (user, assistant) in enumerate(history):
            ids += [
                *self._turn(self.again if number else self.head, user, assistant)[0],
                self.tokenizer.eos_token_id,
            ]
        # A space goes with the word behind it.
        return ids + (self._ids(self.again.rstrip()) if history else [])

    def block(self, question: Question) -> tuple[list[int], list[int]]:
        """Tokenize a question with its answer; returns labels of the same length too."""
        before = self.again.removeprefix(self.again.rstrip()) if question.history else self.head
        return self._turn(before, question.text, question.answers[0])

    def __call__(self, readings: list[Reading]) -> BlockBatch:
        count = len(readings[0].tokens)
        blocks = [[self.block(question) for question in reading.questions] for reading in readings]
        histories = [
            self.said(reading.questions[0].history if reading.questions else ())
            for reading in readings
        ]
        seen_by_all = len(self.prefix) + count
        sizes = [
            len(said) + sum(len(ids) for ids, _ in row)
            for said, row in zip(histories, blocks, strict=True)
        ]
        length = seen_by_all + max(sizes)
        shape = (len(readings), length)
        ids = np.full(shape, self.tokenizer.pad_token_id)
        positions = np.zeros(shape, np.int64)
        labels = np.full(shape, -100)
        segment = np.full(shape, -1)
        # The position of the first word behind the picture.
        behind = len(self.prefix) + self.vision_tokens
        for row, (reading, said, questions) in enumerate(
            zip(readings, histories, blocks, strict=True)
        ):
            head = seen_by_all + len(said)
            ids[row, : len(self.prefix)], ids[row, seen_by_all:head] = self.prefix, said
            positions[row, : len(self.prefix)] = np.arange(len(self.prefix))
            positions[row, len(self.prefix) : seen_by_all] = len(self.prefix) + reading.tokens
            positions[row, seen_by_all:head] = behind + np.arange(len(said))
            segment[row, :head] = 0
            start = head
            for number, (block, targets) in enumerate(questions, start=1):
                end = start + len(block)
                ids[row, start:end] = block
                labels[row, start:end] = targets
                segment[row, start:end] = number
                positions[row, start:end] = behind + len(said) + np.arange(len(block))
                start = end
        seen = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])
        seen &= np.tril(np.ones((length, length), bool))[None]
        seen |= np.eye(length, dtype=bool)[None]  # padding sees itself: no empty rows
        return BlockBatch(
            torch.from_numpy(ids),
            torch.from_numpy(positions),
            torch.from_numpy(seen)[:, None],
            torch.from_numpy(labels),
            torch.from_numpy(np.stack([reading.tokens for reading in readings])),
            torch.tensor([reading.page for reading in readings]),
            len(self.prefix),
        )


def block_logits(
    teacher: Any, batch: BlockBatch, features: Float[Tensor, "B P D"]
) -> tuple[Float[Tensor, "T V"], Int64[Tensor, "T"]]:
    """Logits and labels at the answer positions.

    `features` are all vision tokens of the batch's pages.
    """
    embeds = teacher.get_input_embeddings()(batch.input_ids)
    vision = features.gather(1, batch.tokens[..., None].expand(-1, -1, features.shape[-1]))
    end = batch.prefix + vision.shape[1]
    embeds = torch.cat([embeds[:, : batch.prefix], vision.to(embeds.dtype), embeds[:, end:]], dim=1)
    hidden = teacher.model.language_model(
        inputs_embeds=embeds,
        attention_mask=batch.mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state
    answered = batch.labels != -100
    return teacher.lm_head(hidden[answered]), batch.labels[answered]
