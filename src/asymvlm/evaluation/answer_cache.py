"""Answers of a teacher to a list of questions, resumed from disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cli.progress import track
from ..distillation.teacher import Teacher
from ..documents import Sample
from ..methods import Method
from ..selectors import Keep
from ..storage.fingerprint import describe
from .answers import Answer, answer
from .run_log import RunLog


@dataclass(frozen=True)
class AnswerCache:
    """A teacher, questions, and a folder of their answers.

    Args:
        teacher: The VLM.
        questions: What it is asked.
        out: Folder of the results; answers are in its `answers`.
        basis: What all answers depend on: pages and teacher, as `fingerprint` describes them.
        batch_size: Questions per batch; an interrupted run loses at most one.
        longest_answer: Tokens that are generated at most.
    """

    teacher: Teacher
    questions: Sequence[Sample]
    out: Path
    basis: dict[str, Any]
    batch_size: int
    longest_answer: int

    def answers(self, name: str, method: Method | None, keep: Keep, *more: Any) -> list[Answer]:
        """Answer all questions of one run, from its file as far as it goes.

        `more` is what they depend on besides.
        """
        about = {**self.basis, "method": describe(method), "keep": keep, "more": list(more)}
        about |= {"batch_size": self.batch_size, "longest_answer": self.longest_answer}
        log = RunLog(self.out / "answers", "@".join(map(str, (name, keep, *more))), about)
        with track(f"{name} @ {keep}", len(self.questions)) as advance:
            for start in range(0, len(self.questions), self.batch_size):
                batch = self.questions[start : start + self.batch_size]
                if not all(question.key in log.answers for question in batch):
                    log.add(answer(self.teacher, batch, method, keep, self.longest_answer))
                advance(len(batch))
        return [log.answers[question.key] for question in self.questions]
