"""Further turns of a conversation on the cache of a pruned prefill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class CachedPrompt:
    """A prompt as the caller knows it, and as the model saw it."""

    prompt: Tensor  # [B, S]
    # input_ids, attention_mask, position_ids of the pruned prompt.
    model_inputs: Mapping[str, Tensor]

    def is_continued_by(self, inputs: Mapping[str, Any]) -> bool:
        """Whether a call brings this prompt's cache, and the prompt with more text behind it."""
        ids, past = inputs.get("input_ids"), inputs.get("past_key_values")
        if ids is None or past is None or int(past.get_seq_length()) == 0:
            return False
        length = self.prompt.shape[1]
        return (
            ids.shape[0] == len(self.prompt)
            and ids.shape[1] > length
            and bool(torch.equal(ids[:, :length], self.prompt))
        )

    def extend(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Build the call over the pruned prompt; positions continue behind the whole one."""
        start = self.prompt.shape[1]
        new = inputs["input_ids"][:, start:]
        mask = inputs.get("attention_mask")
        new_mask = torch.ones_like(new) if mask is None else mask[:, start:]
        seen, positions = self.model_inputs, self.model_inputs["position_ids"]
        steps = new_mask.cumsum(-1).clamp_min(1).expand(*positions.shape[:-1], -1)
        seen_mask = seen["attention_mask"]
        changed = {
            "input_ids": torch.cat([seen["input_ids"], new], dim=-1),
            "attention_mask": torch.cat([seen_mask, new_mask.to(seen_mask)], dim=-1),
            "position_ids": torch.cat([positions, positions[..., -1:] + steps], dim=-1),
        }
        for name in ("token_type_ids", "mm_token_type_ids"):
            if name in self.model_inputs:
                changed[name] = torch.cat([self.model_inputs[name], torch.zeros_like(new)], dim=-1)
        return {**inputs, **changed}
