"""An oracle: the dense model's own attention, which runs the whole LLM first."""

from __future__ import annotations

from torch import Tensor

from ..typing import Float
from .base import Method, Tokens


class TeacherAttention(Method):
    """The dense LLM's attention from some rows of the prompt.

    `rows`: "question" (its tokens, without the template's where `prune` is told them), "last" (the
    row that gives the first answer token), or "answer" (that row and those of the model's own dense
    answer, forced; it knows the answer). Costs a dense prefill, so it saves nothing: it shows what
    there is to learn.
    """

    kind = "teacher_attention"

    def __init__(self, rows: str = "last") -> None:
        self.rows = rows

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        return tokens.dense_attention(self.rows)
