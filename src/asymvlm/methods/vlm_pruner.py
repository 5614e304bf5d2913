"""Tokens grown outwards from a few pivots, unlike each other and close together first."""

from __future__ import annotations

import torch
from torch import Tensor

from ..selectors import best, rank
from ..typing import Float, Int64
from .base import Method, Tokens
from .common.similarity import in_blocks, others, unit_rows


class VLMPruner(Method):
    """Centrifugal growth with a buffer for spatial sparsity (VLM-Pruner, arXiv 2512.02700).

    Defaults are the published ones.

    1. `pivots`: the first has the keys of the largest L1 norm, each next is the farthest from those
       before (max-min, L2 in key space).
    2. Redundancy of a candidate: its largest cosine with a kept token, over the `channels` of the
       hidden states that vary most, times (1 + `buffer` * distance to the nearest kept token on the
       grid). Far candidates so look more redundant and wait. A pass sorts the candidates once and
       walks them in blocks of `block`; of each block those below the threshold stay, the least
       redundant ones where not all fit; tokens of one block are not compared with each other. The
       threshold is `threshold` in the first pass and `step` higher in each next.
    3. Every dropped token goes to the kept one that it is most like, which becomes `beta` of itself
       and the rest the mean of its dropped ones, weighted by cosine. Kept tokens that none goes to
       are unchanged.

    Distances are shares of the longest diagonal of the sample's pictures; two tokens of different
    pictures are as far from each other as the larger of their pictures' diagonals. (Published: the
    first picture only.) The grid is that of the tokens, behind a merger where there is one.
    (Published for Qwen2-VL: that of the patches, twice as wide.)

    A negative cosine is buffered as published: it becomes more negative, so of two candidates
    unlike everything kept the farther one comes first. Deviations:

    - A pass that adds nothing is followed by the next threshold, so that always exactly `count`
      stay. The published code stops there with fewer.
    - In step 3 a cosine below 0 weighs nothing; as published, weights of both signs are divided by
      a sum that may be almost 0.
    - Keys are not repeated for the heads of a group, which only scales all norms and distances.

    Costs O(N k C) for k kept tokens and C channels in step 2, O(N k (C + D)) in step 3, and memory
    of O(N (C + `block`)): what is kept acts through two running numbers of each token, its largest
    cosine and its least distance, so no N x N exists.
    """

    kind = "vlm_pruner"
    deviations = (
        "a pass that adds nothing is followed by the next (published: stops with fewer tokens)",
        "negative cosines weigh nothing in fused tokens (published: they do)",
        "distances on the grid of tokens (published for Qwen2-VL: of patches)",
    )

    def __init__(
        self,
        layer: int = 2,
        pivots: int = 4,
        threshold: float = 0.8,
        step: float = 0.1,
        block: int = 16,
        buffer: float = 0.5,
        channels: int = 256,
        beta: float = 0.3,
    ) -> None:
        positive = {"pivots": pivots, "step": step, "block": block, "channels": channels}
        for name, value in positive.items():
            if value <= 0:
                raise ValueError(f"{name}: {value} must be above 0")
        self.layer, self.pivots, self.threshold = layer, pivots, threshold
        self.step, self.block, self.buffer = step, block, buffer
        self.channels, self.beta = channels, beta

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        directions, diagonal = self._directions(tokens.vision), _diagonals(tokens.grid)
        kept = torch.zeros(len(directions), dtype=torch.bool, device=directions.device)
        cosine = torch.full_like(directions[:, 0], -torch.inf)
        distance = torch.full_like(directions[:, 0], torch.inf)

        def redundancy(of: Int64[Tensor, "c"]) -> Float[Tensor, "c"]:
            return cosine[of] * (1 + self.buffer * distance[of])

        def keep(new: Int64[Tensor, "c"]) -> int:
            kept[new] = True
            torch.maximum(cosine, (directions @ directions[new].T).amax(-1), out=cosine)
            torch.minimum(distance, _distances(tokens.grid, diagonal, new).amin(-1), out=distance)
            return len(new)

        left = count - keep(_pivots(tokens.below().keys, min(self.pivots, count)))
        threshold = self.threshold
        while left:
            candidates = (~kept).nonzero().squeeze(-1)
            before = redundancy(candidates)
            least = float(before.min())
            while least >= threshold:  # a pass would add nothing
                threshold += self.step
            for block in candidates[rank(-before)].split(self.block):
                now = redundancy(block)
                order = rank(-now)
                new = block[order[now[order] < threshold]][:left]
                left -= keep(new) if len(new) else 0
                if not left:
                    break
            threshold += self.step
        return kept.nonzero().squeeze(-1)

    def merge(self, tokens: Tokens, kept: Int64[Tensor, "k"]) -> Float[Tensor, "k D"]:
        directions, states = self._directions(tokens.vision), tokens.vision.float()
        dropped = others(len(states), kept)
        weighed, weight = torch.zeros_like(states[kept]), torch.zeros_like(states[kept, :1])
        for part, cosines in in_blocks(directions[dropped], directions[kept]):
            nearest = best(cosines)
            cosine = cosines.gather(-1, nearest[:, None])[:, 0]
            share = cosines.new_zeros(len(kept), len(cosine)).scatter_(
                0, nearest[None], cosine.clamp_min(0)[None]
            )
            weighed += share @ states[dropped[part]]
            weight += share.sum(-1, keepdim=True)
        fused = self.beta * states[kept] + (1 - self.beta) * weighed / weight.clamp_min(1e-8)
        return torch.where(weight > 0, fused, states[kept]).to(tokens.vision.dtype)

    def _directions(self, vision: Float[Tensor, "n D"]) -> Float[Tensor, "n C"]:
        states = vision.float()
        if not bool(torch.isfinite(states).all()):
            raise ValueError(
                "vision: hidden states that are not finite have no cosine; load the model in "
                "bfloat16 or float32"
            )
        varied = rank(states.var(0, correction=0))[: self.channels]
        return unit_rows(states[:, varied])


def _pivots(keys: Float[Tensor, "n d"], count: int) -> Int64[Tensor, "count"]:
    keys = keys.float()
    found = best(keys.abs().sum(-1))[None]
    nearest = keys.new_full((len(keys),), torch.inf)
    while len(found) < count:
        nearest = torch.minimum(nearest, (keys - keys[found[-1]]).norm(dim=-1))
        # Or a token of the same keys, also at distance 0, could not be told from a pivot.
        nearest[found] = -torch.inf
        found = torch.cat([found, best(nearest)[None]])
    return found


def _diagonals(grid: Int64[Tensor, "n 3"]) -> Float[Tensor, "n"]:
    """Diagonal of the picture that each token belongs to, in tokens."""
    picture, place = grid[:, 0], grid[:, 1:]
    sides = torch.ones(int(picture.max()) + 1, 2, dtype=place.dtype, device=grid.device)
    sides.scatter_reduce_(0, picture[:, None].expand_as(place), place + 1, "amax")
    return sides.float().norm(dim=-1)[picture]


def _distances(
    grid: Int64[Tensor, "n 3"], diagonal: Float[Tensor, "n"], new: Int64[Tensor, "c"]
) -> Float[Tensor, "n c"]:
    """Distance of every token to those in `new`, as shares of the longest diagonal."""
    place = grid[:, 1:].float()
    together = grid[:, :1] == grid[new, 0]
    within = torch.cdist(place, place[new], compute_mode="donot_use_mm_for_euclid_dist")
    return (
        torch.where(together, within, torch.maximum(diagonal[:, None], diagonal[new]))
        / diagonal.max()
    )
