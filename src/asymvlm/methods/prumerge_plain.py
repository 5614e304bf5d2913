"""Outliers of the tower's attention, with neighbours fused in."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import rank, top_k
from ..typing import Float, Int64
from .base import Method, Tokens
from .common.fusing import BEHIND, BEHIND_SOMETIMES, fused_features
from .common.similarity import in_blocks, others, unit_rows

_NEIGHBOURS = 32


class PruMerge(Method):
    """Top tokens by CLS attention, with the others fused in (PruMerge, arXiv 2403.15388).

    The attention a is that of the tower's layer that reads the features, all heads read as one;
    so are the keys. Each kept token becomes x_i + sum a_j x_j over the 32 other tokens with the
    most similar keys, unnormalised. One more token is appended: the sum of a_j x_j over all tokens
    not kept. All that in front of the projector, on the tower's states.

    `keep="auto"` keeps the published number: outliers of the attention above Q3 + 1.5 IQR, and the
    appended token. Under a given count as many top tokens as there is room for beside the appended
    one, which stands in the place of the last token not kept otherwise. Where all tokens stay,
    nothing is fused. O(k N (C + E)) time.

    Towers without a CLS: attention received. Towers without a layer above the features: the
    attention and keys of the layer that gives them. Where several patches make a token, or more
    than the projector stands between (a last norm), tokens are fused behind the projector.

    Args:
        before_projector: False fuses behind the projector everywhere.
    """

    kind = "prumerge"
    reads_tower = True

    def __init__(self, before_projector: bool = True) -> None:
        self.before_projector = before_projector
        self.deviations = (
            "tokens stand in the picture's order (published: by attention, the appended one last)",
            BEHIND_SOMETIMES if before_projector else BEHIND,
        )

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        themselves = self.themselves(tokens.tower().single_head().float(), count - 1)
        appended = others(len(tokens.vision), themselves)[-1:]
        return torch.cat([themselves, appended]).sort().values

    def themselves(self, attention: Float[Tensor, "n"], count: int) -> Int64[Tensor, "count"]:
        """Choose the tokens that stay as themselves, ascending."""
        return top_k(attention, count)

    def merge(self, tokens: Tokens, kept: Int64[Tensor, "k"]) -> Float[Tensor, "k D"]:
        if len(kept) == len(tokens.vision):
            return tokens.vision
        tower = tokens.tower()
        attention, keys = tower.single_head().float(), unit_rows(tower.single_head_keys())
        themselves = self.themselves(attention, len(kept) - 1)
        appended = ~torch.isin(kept, themselves)

        def combine(rows: Float[Tensor, "n C"]) -> Float[Tensor, "k C"]:
            weighted, fused = rows * attention[:, None], rows[kept]
            fused[~appended] += _neighbours(keys, themselves, weighted)
            fused[appended] = weighted[others(len(rows), themselves)].sum(0)
            return fused

        return fused_features(tokens, kept, combine, self.before_projector)

    def budget(self, tokens: Tokens) -> float:
        """Return the published number of tokens, as a share."""
        attention = tokens.tower().single_head().float()
        return (len(self.published(attention)) + 1) / len(attention)

    def published(self, attention: Float[Tensor, "n"]) -> Int64[Tensor, "k"]:
        """Choose the tokens that the authors' rule keeps as themselves, ascending."""
        return top_k(attention, outliers(attention))


def outliers(attention: Float[Tensor, "n"]) -> int:
    """Count the values above the third quartile by more than 1.5 times the quartiles' distance."""
    low, high = attention.quantile(attention.new_tensor([0.25, 0.75]))
    return int((attention > high + 1.5 * (high - low)).sum())


def _neighbours(
    keys: Float[Tensor, "n C"], of: Int64[Tensor, "k"], weighted: Float[Tensor, "n E"]
) -> Float[Tensor, "k E"]:
    """Sum the `weighted` rows of the 32 other tokens with the most similar keys."""
    added = weighted.new_zeros(len(of), weighted.shape[1])
    for part, cosine in in_blocks(keys[of], keys):
        cosine.scatter_(1, of[part, None], -torch.inf)
        near = rank(cosine)[:, : min(_NEIGHBOURS, len(keys) - 1)]
        added[part] = torch.zeros_like(cosine).scatter_(1, near, 1.0) @ weighted
    # The end of a line has no key, and so no neighbours.
    return added * keys[of].any(-1, keepdim=True)
