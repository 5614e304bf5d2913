"""The scorer checkpoint: config.json, model.safetensors and a card in one directory.

docs/checkpoint-format.md is the norm, `asymvlm.check` holds directories against it.

Needs torch and safetensors only, so that any loader can use it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..check import (
    ADAPTER_FOLDER,
    CARD_FILE,
    CONFIG_FILE,
    FORMAT,
    FORMAT_VERSION,
    OWN_ENTRIES,
    WEIGHTS_FILE,
    check_config,
    check_directory,
    is_scorer,
    reason,
)
from ..errors import DataError
from ..scorers import BudgetHead, Scorer, TokenBatch, scorers
from ..storage.atomic import check_replaceable, draft_directory, publish_directory
from ..typing import Bool, Float

if TYPE_CHECKING:
    from .adapter import AdapterWeights


class TrainedScorer(nn.Module):
    """A scorer with its budget head and what it takes to use them.

    `masked_ids` are token ids of the prompt that the scorer must not read: template and special
    tokens. `adapter` is the directory of a LoRA adapter that was trained beside the scorer, if
    there is one; `asymvlm.prune(..., adapter=True)` applies it.
    """

    state = ("about",)  # scores do not depend on it (`fingerprint.describe`)

    def __init__(
        self,
        scorer: Scorer,
        budget: BudgetHead | None,
        masked_ids: tuple[int, ...] = (),
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self.budget = budget
        self.masked_ids = masked_ids
        self.about = about or {}
        self.adapter: Path | None = None

    @property
    def width(self) -> int:
        return self.scorer.width

    def forward(self, batch: TokenBatch) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B"] | None]:
        """Compute scores, and keep ratios in (0, 1] where there is a budget head."""
        scores = self.scorer(batch)
        return scores, None if self.budget is None else self.budget(batch, scores)

    def text_mask(self, text_ids: Tensor) -> Bool[Tensor, "*b L"]:
        """Mark the text tokens that the scorer may read."""
        return ~torch.isin(
            text_ids, torch.tensor(self.masked_ids, dtype=text_ids.dtype, device=text_ids.device)
        )

    def config(self) -> dict[str, Any]:
        """Return the contents of config.json."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "scorer": {"kind": self.scorer.kind, "arguments": self.scorer.arguments},
            "budget": None if self.budget is None else {"arguments": self.budget.arguments},
            "input": {"stage": "llm_input", "width": self.width, "grid": "picture_row_column"},
            "masked_ids": list(self.masked_ids),
            "polarity": "higher_keeps",
            "rounding": "half_up_at_least_one",
            "budget_scope": "sample",
            **self.about,
        }


def save_scorer(
    trained: TrainedScorer, directory: str | Path, card: str, adapter: AdapterWeights | None = None
) -> Path:
    """Write a scorer directory, whole or not at all; returns its absolute path.

    With it goes `adapter`, or the one that `trained` was loaded with. Of a scorer that is there
    already the format's own files are replaced, and others stay. Raises ValueError for a directory
    that is something else (see `check_target`), DataError for a scorer that `load_scorer` would
    refuse.
    """
    target = check_target(directory)
    weights = {
        name: item.detach().float().contiguous().cpu()
        for name, item in trained.state_dict().items()
    }
    named = {} if adapter is None and trained.adapter is None else {"adapter": ADAPTER_FOLDER}
    with draft_directory(target) as draft:
        try:
            (draft / CONFIG_FILE).write_text(_config_text(trained, named), encoding="utf-8")
            save_file(weights, draft / WEIGHTS_FILE)
            if adapter is not None:
                adapter.save(draft / ADAPTER_FOLDER)
            elif trained.adapter is not None:
                shutil.copytree(trained.adapter, draft / ADAPTER_FOLDER)
            (draft / CARD_FILE).write_text(card, encoding="utf-8")
            check_directory(draft)
        except DataError as fault:
            said = str(fault).removeprefix(f"{draft}: ")
            raise DataError(f"{directory} is not written, since {said}") from None
        publish_directory(draft, target, OWN_ENTRIES)
    return target


def _config_text(trained: TrainedScorer, named: dict[str, str]) -> str:
    """Write config.json; raises DataError for what would not be valid, before JSON changes it."""
    config = trained.config() | named
    check_config(config)
    try:
        return json.dumps(config, indent=2) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{CONFIG_FILE}: {error}; give plain values in teacher, data and training"
        ) from None


def check_target(directory: str | Path) -> Path:
    """Return the absolute path of a directory that a scorer may be written to.

    Raises ValueError for one that holds something else than a scorer, a file, and where nothing
    can be written.
    """
    return check_replaceable(Path(directory), is_scorer, "scorer directory")


def load_scorer(path: str | Path, device: str | torch.device = "cpu") -> TrainedScorer:
    """Load a scorer from a directory, or from a Hugging Face repository where there is none.

    Raises DataError for a directory that is not valid: the line that `asymvlm check` prints.
    """
    directory = _resolve(path)
    config = check_directory(directory)
    trained = scorer_from(config)
    trained.load_state_dict(load_file(directory / WEIGHTS_FILE))
    trained.adapter = directory / ADAPTER_FOLDER if "adapter" in config else None
    return trained.eval().to(device)


def scorer_from(config: dict[str, Any]) -> TrainedScorer:
    """Build a scorer with fresh weights from a config that `check_config` has accepted."""
    budget = config["budget"]
    return TrainedScorer(
        scorers()[config["scorer"]["kind"]](**config["scorer"]["arguments"]),
        None if budget is None else BudgetHead(**budget["arguments"]),
        tuple(config["masked_ids"]),
        {key: config[key] for key in ("teacher", "data", "training") if key in config},
    )


def _resolve(path: str | Path) -> Path:
    directory, repository = Path(path), str(path)
    is_here = os.path.lexists(directory) or directory.is_absolute()
    if is_here or repository.count("/") != 1 or repository.startswith("."):
        return directory
    try:
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                repository,
                allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, f"{ADAPTER_FOLDER}/*"],
            )
        )
    except Exception as error:
        raise DataError(
            f"{path}: neither a directory here nor a repository that could be fetched "
            f"({reason(error)})"
        ) from error
