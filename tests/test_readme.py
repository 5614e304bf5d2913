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
from support import families, readme, tiny_processors

import asymvlm
from asymvlm.backbone.processor import pictures_only
from asymvlm.backbone.prompt import Prompter
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.scorers import BudgetHead, scorers

pytestmark = pytest.mark.filterwarnings("default")  # as a user would see them


@pytest.fixture(scope="module")
def repository(tmp_path_factory, page_samples):
    copy = tmp_path_factory.mktemp("repository")
    readme.small_copy(copy, page_samples)
    return copy


@pytest.mark.parametrize("command", readme.commands(measures=False))
def test_command(repository, command, monkeypatch):
    readme.run(command, repository, monkeypatch)


def test_python(llava, processor, page_samples, tmp_path, monkeypatch):
    """Run the blocks in their order; the first on a tiny model of the family that it names."""
    first, *others = re.findall(r"```python\n(.*?)```", readme.README, re.S)
    monkeypatch.chdir(tmp_path)
    with pictures_only():
        qwen = tiny_processors.qwen("Qwen2_5_VL", patch=14, most_pixels=64 * 64)
    families.qwen2_5_vl(patch=14).build().save_pretrained("Qwen/Qwen2.5-VL-3B-Instruct")
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lambda name, **more: qwen)
    page_samples[0].image.save("page.png")
    names = {}
    exec(first, names)  # the README's own words
    call = names["ask"].report.calls[0]
    assert 0 < call.after[0] == round(call.before[0] / 4)

    trained = TrainedScorer(scorers()["low_rank"](40), BudgetHead(40), (0, 1, 2, 3))
    save_scorer(trained, Path("checkpoints/tiny/scorer"), "card")
    predictor = {"weight": torch.zeros(2, 40), "bias": torch.zeros(2)}
    save_file(predictor, "checkpoints/tiny/text-scores.safetensors")
    inputs = Prompter(processor)(page_samples[:1]).inputs
    names |= {"model": llava, "inputs": inputs, "processor": processor}
    for block in others:
        exec(block, names)
    assert names["out"].shape[1] > inputs["input_ids"].shape[1]
    with torch.no_grad(), asymvlm.prune(llava, names["Brightest"](), keep=0.25) as report:
        llava(**inputs)
    assert report.calls[0].after == [64]


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", readme.README):
        assert target.startswith("https://") or (readme.ROOT / target).exists(), target
