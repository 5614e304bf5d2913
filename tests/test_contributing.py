"""CONTRIBUTING's six files, written into a copy of the package: each is found and works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from support import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TRY = """
import sys; sys.path.insert(0, "{tests}")
import tempfile
import torch
from jsonargparse import ArgumentParser
import asymvlm
from asymvlm.backbone import backbone_of
from asymvlm.check import main as check
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.objectives import Objective, Labels, Prediction
from asymvlm.registry import import_all
from asymvlm.scorers import TokenBatch, scorers
from asymvlm.targets import Target
from support import families

assert asymvlm.__file__.startswith("{copy}"), asymvlm.__file__
model = families.llava().build()
inputs = families.batch(model, families.llava())
with asymvlm.prune(model, asymvlm.methods()["brightest"](), keep=0.5) as report:
    model(**inputs)
assert report.calls[0].after == [8, 16]
vision, text, grid = torch.randn(5, 8), torch.randn(2, 8), torch.zeros(5, 3).long()
batch = TokenBatch.single(vision, text, grid)
assert scorers()["linear_probe"](8)(batch).shape == (1, 5)
saved = save_scorer(TrainedScorer(scorers()["linear_probe"](8), None), tempfile.mkdtemp(), "")
assert check([str(saved)]) == 0 and asymvlm.load_scorer(saved)(batch)[0].shape == (1, 5)
with asymvlm.evict(model, asymvlm.evictors()["value_norm"](2, 4), text_budget=8) as evictions:
    model.generate(**inputs, max_new_tokens=6, do_sample=False)
assert max(evictions.calls[0].gone) > 0
for room in ("objectives", "targets"):
    import_all(f"asymvlm.{{room}}")
parser = ArgumentParser()
parser.add_argument("--term", type=Objective)
parser.add_argument("--target", type=Target)
made = parser.instantiate(
    parser.parse_args(["--term", "Entropy", "--term.weight", "0.5", "--target", "Uniform"])
)
scores = torch.zeros(1, 4)
labels = Labels(scores, scores[:, 0], torch.ones(1, 4).bool())
term = made.term(Prediction(scores, scores[:, 0]), labels)
torch.testing.assert_close(term, -torch.tensor(4.0).log())
assert made.term.weight == 0.5 and type(made.target).__name__ == "Uniform"
model.config.model_type = "deepseek_vl"
assert type(backbone_of(model)).__name__ == "DeepseekVL"
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "src/asymvlm", copy / "asymvlm")
    return copy


def files():
    """Path below the package and text of each file that the page shows."""
    sections = re.findall(r"### An? [\w ]+\n(.*?)```python\n(.*?)```", TEXT, re.S)
    return {re.findall(r"`src/asymvlm/([\w/]+\.py)`", about)[-1]: body for about, body in sections}


def test_six_files_are_shown():
    assert len(files()) == 6


def test_each_is_found_and_works(copy):
    for path, body in files().items():
        assert not (copy / "asymvlm" / path).exists()
        (copy / "asymvlm" / path).write_text(body)
    body = TRY.format(tests=ROOT / "tests", copy=copy)
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, "-c", body], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
