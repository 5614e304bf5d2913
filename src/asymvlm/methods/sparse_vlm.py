"""Tokens that the question's words attend to; dropped ones are recycled into a few."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..selectors import best, rank, top_k
from ..typing import Float, Int64
from .base import Method, Tokens
from .pyramid_drop import geometric

_ROUNDING = 2.0**-18  # of distances, as a share of the largest


class SparseVLM(Method):
    """Attention of the rater words, in several layers (SparseVLM v1.5, arXiv 2410.04417).

    Mean over raters and heads (section 3).

    Raters are the question tokens to which the vision tokens turn more than to the mean one: with
    the vision tokens' dot products with the question tokens made a softmax over the question, those
    of more than mean probability. They are found once, from the LLM's inputs. The question is the
    text behind the last picture; all text where there is none. Where no token is above the mean (as
    of one token) all are raters.

    What is dropped is recycled: the best `recycle` of it by score is clustered by density peaks,
    and each cluster stays as one token, the mean of its members at the place of its centre; the
    published code takes the mean where descriptions of it say the sum. `recycle=0` does without, as
    v2 does.

    Deviations:

    - Counts. The published ones are written down for four budgets of 576 tokens, and clusters come
      on top. Here each stage leaves the same share of what the stage before left, so that `count`
      are left at the end, and clusters take some of the places: as many as the published rule makes
      of what does not fit, but at most `count - 1`.
    - Density ties go to the earlier token; published: random noise.
    - A cluster stands in the place of its centre; published: behind the tokens that stay, all of
      which then count positions anew.

    Layers are those before which tokens leave. The published code numbers those behind which they
    leave, 2, 6 and 15, and ranks by their attention.

    Costs O(H L N d + L N D) a stage, and O(R^2 D) for R recycled tokens.

    Args:
        layers: `(2, 6, 15)` has tokens leave one layer earlier, as the authors' counts of tokens
            have it.
        recycle: Share of what is dropped that is clustered.
        raters_once: False finds raters anew at each stage, from the states that its layer reads.
    """

    kind = "sparse_vlm"

    def __init__(
        self,
        layers: tuple[int, ...] = (3, 7, 16),
        recycle: float = 0.3,
        raters_once: bool = True,
    ) -> None:
        if not layers or list(layers) != sorted(set(layers)):
            raise ValueError(
                f"layers: {layers} must be one or more layers, ascending and different"
            )
        if not 0.0 <= recycle <= 1.0:
            raise ValueError(
                f"recycle: {recycle} must be a share of the dropped tokens, from 0 to 1"
            )
        self.layers, self.layer, self.recycle = layers, layers[0], recycle
        self.raters_once = raters_once
        self.deviations = (
            "every stage leaves the same share (published: counts for four budgets)",
            "clusters count among the tokens kept (published: on top)",
            "clusters stand in their centres' places, positions stay (published: counted anew)",
            "density ties go to the earlier token (published: noise)",
        )
        if not raters_once:
            self.deviations += ("raters anew at each stage (published: once)",)

    def stages(self, count: int, total: int, depth: int) -> dict[int, int]:
        return geometric(count, total, self.layers)

    def score(self, tokens: Tokens) -> Float[Tensor, "n"]:
        behind = tokens.after_pictures
        vision, text = tokens.vision, tokens.text
        if self.raters_once and tokens.llm_inputs is not None:
            vision, text = tokens.llm_inputs()
        turned = (vision.float() @ text[behind].float().T).softmax(-1).mean(0)
        raters = turned > turned.mean()
        if not bool(raters.any()):
            raters = torch.ones_like(raters)
        return tokens.below().attention(behind.nonzero()[raters, 0]).mean((0, 1))

    def select(self, tokens: Tokens, count: int) -> Int64[Tensor, "count"]:
        best, members, centres, _ = self._split(tokens, count)
        return torch.cat([best, members[centres]]).sort().values

    def merge(self, tokens: Tokens, kept: Int64[Tensor, "k"]) -> Float[Tensor, "k D"]:
        _, members, centres, cluster = self._split(tokens, len(kept))
        features = tokens.vision[kept]
        if len(centres):
            belongs = F.one_hot(cluster, len(centres)).T.float()
            means = belongs @ tokens.vision[members].float() / belongs.sum(-1, keepdim=True)
            features[torch.searchsorted(kept, members[centres])] = means.to(features.dtype)
        return features

    def _split(
        self, tokens: Tokens, count: int
    ) -> tuple[Int64[Tensor, "b"], Int64[Tensor, "m"], Int64[Tensor, "c"], Int64[Tensor, "m"]]:
        """Split into tokens that stay, tokens to recycle, and the clusters of the latter."""
        scores, total = self.score(tokens), len(tokens.vision)
        clusters = 0
        if self.recycle > 0 and count < total:
            clusters = min(self._recycled(total - count) // 10 + 1, count - 1)
        order = rank(scores)
        best, dropped = order[: count - clusters], order[count - clusters :]
        members = dropped[: self._recycled(len(dropped)) if clusters else 0].sort().values
        return best, members, *_density_peaks(tokens.vision[members].float(), clusters)

    def _recycled(self, dropped: int) -> int:
        return int(self.recycle * dropped) + 1


def _density_peaks(
    states: Float[Tensor, "m D"], count: int
) -> tuple[Int64[Tensor, "c"], Int64[Tensor, "m"]]:
    """Cluster by density peaks; returns the centres and each token's cluster.

    A centre is dense (near its `count` nearest, itself one of them) and far from denser ones.
    """
    if count == 0:
        none = torch.zeros(0, dtype=torch.long, device=states.device)
        return none, none
    # States share a large offset, which would cost the distances their digits.
    states = states - states.mean(0)
    # Not by matrix products, whose errors make copies of a token as far apart as neighbours.
    distance = torch.cdist(states, states, compute_mode="donot_use_mm_for_euclid_dist")
    distance = distance / states.shape[-1] ** 0.5
    distance = F.threshold(distance, _ROUNDING * float(distance.max()), 0.0)
    # Its logarithm: the exponential of all may be 0.
    density = -distance.topk(count, largest=False).values.square().mean(-1)
    place = rank(density).argsort()
    lonely = distance.masked_fill(place >= place[:, None], float(distance.max())).amin(-1)
    centres = top_k(lonely * (density - density.max()).exp(), count)
    cluster = best(-distance[:, centres])
    cluster[centres] = torch.arange(count, device=states.device)
    return centres, cluster
