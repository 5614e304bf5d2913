"""Training samples of a scorer, and their form on disk.

n vision tokens, L text tokens, D the LLM's hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ..typing import Bool, Float, Int64


@dataclass
class DistillationSample:
    """Inputs and labels of one question."""

    vision: Float[Tensor, "n D"]
    text: Float[Tensor, "L D"]
    text_mask: Bool[Tensor, "L"]
    grid: Int64[Tensor, "n 3"]
    # A distribution over the vision tokens.
    importance: Float[Tensor, "n"]
    # Share of each token's cell that lies in an evidence box, or in a key box; all zero where the
    # data has none.
    evidence: Float[Tensor, "n"]
    key_boxes: Float[Tensor, "n"]
    # Share of tokens at which the dense answer stays; NaN where the teacher was not asked.
    dense_answer_share: Float[Tensor, "1"]


def to_record(sample: DistillationSample) -> dict[str, bytes]:
    """Convert to flat bytes for a `datasets` cache, in half precision where it is enough.

    Raises ValueError for what has no finite values there.
    """
    record = {}
    for field in fields(sample):
        value: Tensor = getattr(sample, field.name).cpu().to(_STORED[field.name])
        _check_finite(field.name, value)
        record[field.name] = value.numpy().tobytes()
    return record


def from_record(record: dict[str, bytes]) -> DistillationSample:
    """Invert `to_record`, in fp32.

    Raises ValueError for bytes that `to_record` has not made.
    """
    arrays: dict[str, np.ndarray] = {
        name: np.frombuffer(record[name], dtype=_NUMPY[dtype]) for name, dtype in _STORED.items()
    }
    grid = arrays["grid"].reshape(-1, 3)
    width = len(arrays["vision"]) // max(1, len(grid))
    sample = DistillationSample(
        vision=_tensor(arrays["vision"].reshape(len(grid), width)).float(),
        text=_tensor(arrays["text"].reshape(-1, width)).float(),
        text_mask=_tensor(arrays["text_mask"]),
        grid=_tensor(grid).long(),
        importance=_tensor(arrays["importance"]),
        evidence=_tensor(arrays["evidence"]).float(),
        key_boxes=_tensor(arrays["key_boxes"]).float(),
        dense_answer_share=_tensor(arrays["dense_answer_share"]),
    )
    for field in fields(sample):
        _check_finite(field.name, getattr(sample, field.name))
    return sample


def _check_finite(name: str, value: Tensor) -> None:
    # NaN stands for a teacher that was not asked.
    if name != "dense_answer_share" and not bool(value.isfinite().all()):
        raise ValueError(f"{name}: holds values that are not finite in {_STORED[name]}")


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())  # a buffer from disk is read-only


_STORED = {
    "vision": torch.float16,
    "text": torch.float16,
    "text_mask": torch.bool,
    "grid": torch.int32,
    "importance": torch.float32,
    "evidence": torch.float16,
    "key_boxes": torch.float16,
    "dense_answer_share": torch.float32,
}
_NUMPY = {
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.bool: np.bool_,
    torch.int32: np.int32,
}
