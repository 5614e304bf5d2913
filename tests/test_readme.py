"""Every command and every piece of Python in the README runs, in order, on small settings.

What measures is in test_readme_tables.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from support import readme

import asymvlm


@pytest.fixture(scope="module")
def repository(tmp_path_factory, page_samples):
    copy = tmp_path_factory.mktemp("repository")
    readme.small_copy(copy, page_samples)
    return copy


@pytest.mark.parametrize("command", readme.commands(measures=False))
def test_command(repository, command):
    readme.run(command, repository)


def test_python(llava, processor, page_samples, tmp_path, monkeypatch):
    from asymvlm.backbone.prompt import Prompter
    from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
    from asymvlm.scorers import scorers

    monkeypatch.chdir(tmp_path)
    save_scorer(
        TrainedScorer(scorers()["low_rank"](40), None, (0, 1, 2, 3)),
        Path("checkpoints/tiny/scorer"),
        "card",
    )
    save_file(
        {"weight": torch.zeros(2, 40), "bias": torch.zeros(2)},
        "checkpoints/tiny/text-scores.safetensors",
    )
    inputs = Prompter(processor)(page_samples[:1]).inputs
    names = {
        "asymvlm": asymvlm,
        "model": llava,
        "inputs": inputs,
        "processor": processor,
        "transformers": transformers,
    }
    for block in re.findall(r"```python\n(.*?)```", readme.README, re.S):
        exec(block, names)  # the README's own words
    assert names["out"].shape[1] > inputs["input_ids"].shape[1]
    with torch.no_grad(), asymvlm.prune(llava, names["Brightest"](), keep=0.25) as report:
        llava(**inputs)
    assert report.calls[0].after == [64]


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", readme.README):
        assert target.startswith("https://") or (readme.ROOT / target).exists(), target
