"""Keys of caches change with whatever the content depends on, and with nothing else."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.fingerprints import Own, Setting, about, edit, key, mark

import asymvlm.storage.fingerprint as module
from asymvlm.backbone.processor import load_processor
from asymvlm.checkpoint.scorer import TrainedScorer, save_scorer
from asymvlm.distillation.teacher import Teacher
from asymvlm.documents.sources.source import DataSource
from asymvlm.documents.world.generated import fingerprint
from asymvlm.errors import DataError
from asymvlm.methods import Learned
from asymvlm.methods.evidence import Evidence
from asymvlm.methods.random import Random
from asymvlm.scorers import scorers
from asymvlm.storage.fingerprint import describe_teacher, differences
from asymvlm.targets import AttentionTarget, EvidenceTarget, MixedTarget, ShuffledTarget


@pytest.mark.parametrize(
    "one,other",
    [
        (Own(1.0), Own(2.0)),
        (Own(weights=torch.zeros(3)), Own(weights=torch.ones(3))),
        (Own(weights=torch.zeros(3)), Own(weights=torch.zeros(1, 3))),
        (Own(weights=torch.zeros(3)), Own(weights=torch.zeros(3, dtype=torch.float64))),
        (Own(weights=np.zeros(3)), Own(weights=np.ones(3))),
        (Own(extra={"a", "b"}), Own(extra={"a", "c"})),
        (Own(extra=Setting(1)), Own(extra=Setting(2))),
        (Own(extra=torch.float16), Own(extra=torch.bfloat16)),
        (Own(extra=functools.partial(max, 1)), Own(extra=functools.partial(max, 2))),
        (Own(extra=torch.nn.Linear(2, 2)), Own(extra=torch.nn.Linear(2, 2))),
        (Own(extra=Random(1)), Own(extra=Random(2))),
        (Random(1), Random(2)),
        (AttentionTarget("last"), AttentionTarget("answer")),
        (
            MixedTarget(AttentionTarget(), EvidenceTarget(), 0.5),
            MixedTarget(AttentionTarget(), EvidenceTarget(0.1), 0.5),
        ),
        (ShuffledTarget(AttentionTarget(), 1), ShuffledTarget(AttentionTarget(), 2)),
        (1, 1.5),
        (True, 1.5),
        ("1", 1),
        (None, "None"),
    ],
)
def test_other_settings_other_keys(one, other):
    assert key(one) != key(other) and key(one) == key(one)


def test_an_object_may_refer_to_itself():
    one, other = Own(1.0), Own(2.0)
    one.whole = one._extra = one
    other.whole = other._extra = other
    assert key(one) != key(other)


def test_equal_settings_equal_keys():
    assert key(Own(2.0, torch.ones(2), {"b", "a"})) == key(Own(2.0, torch.ones(2), {"a", "b"}))
    assert key(ShuffledTarget(AttentionTarget(), 1)) == key(ShuffledTarget(AttentionTarget(), 1))


def method_of(tmp_path, name, body):
    """A user's class, from a file of its own."""
    import importlib.util

    file = tmp_path / f"{name}.py"
    file.write_text(
        "import asymvlm\nclass Mine(asymvlm.Method):\n    def score(self, tokens):\n        "
        f"return {body}\n"
    )
    spec = importlib.util.spec_from_file_location("mine", file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.Mine()


def test_the_code_of_a_user_s_method_counts(tmp_path):
    first = method_of(tmp_path, "one", "tokens.vision.sum(-1)")
    same = method_of(tmp_path, "two", "tokens.vision.sum(-1)")
    other = method_of(tmp_path, "three", "-tokens.vision.sum(-1)")
    assert key(first) == key(same) != key(other)


def test_the_code_that_a_user_s_method_imports_counts(tmp_path, monkeypatch):
    """Through other modules of theirs, too; libraries beside them do not."""
    import importlib
    import sys

    files = {
        "mine_method.py": "import asymvlm, lib_there\nfrom mine_middle import rule\n"
        "class Mine(asymvlm.Method):\n    def score(self, tokens):\n        return rule(tokens)\n",
        "mine_middle.py": "import mine_rule\nrule = mine_rule.rule\n",
        "mine_rule.py": "def rule(tokens):\n    return tokens.vision.sum(-1)\n",
        "site-packages/lib_there.py": "version = 1\n",
    }

    def loaded(folder, changed, old, new):
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text.replace(old, new) if name == changed else text)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            patch.syspath_prepend(str(folder / "site-packages"))
            for name in files:
                sys.modules.pop(Path(name).stem, None)
            return key(importlib.import_module("mine_method").Mine())

    first = loaded(tmp_path / "a", None, "", "")
    assert loaded(tmp_path / "b", None, "", "") == first
    assert loaded(tmp_path / "c", "mine_rule.py", "sum", "mean") != first
    assert loaded(tmp_path / "d", "site-packages/lib_there.py", "1", "2") == first


def test_what_changes_while_a_method_works_does_not_count():
    method = Evidence()
    before = key(method)
    method.begin([object()])
    assert key(method) == before


def test_a_scorer_is_its_weights_and_masked_ids_wherever_it_lies(tmp_path):
    torch.manual_seed(0)
    trained = TrainedScorer(scorers()["low_rank"](8), None, (1, 2), {"teacher": {"name": "t"}})
    here = save_scorer(trained, tmp_path / "here", "card")
    there = shutil.copytree(here, tmp_path / "there")
    assert key(Learned(str(here))) == key(Learned(str(there))) == key(Learned(trained))
    assert key(Learned(TrainedScorer(trained.scorer, None, (1, 2, 3)))) != key(Learned(trained))


def larger_pictures(folder):
    file = folder / "processor_config.json"
    config = json.loads(file.read_text())
    config["image_processor"]["size"] = {"height": 448, "width": 448}
    file.write_text(json.dumps(config))


def other_words(folder):
    file = folder / "tokenizer.json"
    tokens = json.loads(file.read_text())
    vocabulary = tokens["model"]["vocab"]
    first, second = list(vocabulary)[20:22] if isinstance(vocabulary, dict) else (20, 21)
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(tokens))


def other_weight(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    "change,says",
    [
        (larger_pictures, "processor.image_processor.size.height: 224 -> 448"),
        (
            lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
            "chat_template: ",
        ),
        (other_words, "tokenizer: "),
        (other_weight, "weights: "),
        (
            lambda folder: edit(folder / "config.json", vision_feature_layer=-3),
            "config.vision_feature_layer: ",
        ),
        (
            lambda folder: edit(folder / "generation_config.json", repetition_penalty=1.5),
            "generation.repetition_penalty: ",
        ),
    ],
)
def test_everything_of_a_teacher_counts_and_is_named(copied, teacher, change, says):
    assert about(copied) == about(teacher), "its place does not count"
    change(copied)
    assert any(line.startswith(says) for line in differences(about(teacher), about(copied)))


def test_versions_count(teacher, monkeypatch):
    before = about(teacher)
    monkeypatch.setattr(module.transformers, "__version__", "99.0")
    (changed,) = differences(before, about(teacher))
    assert changed.startswith("versions.transformers: ") and changed.endswith(" -> 99.0")


def test_a_commit_of_the_hub_counts(teacher, monkeypatch):
    """A repository is no directory here, so its weights are known by the commit."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(teacher)
    processor = load_processor(str(teacher))
    monkeypatch.setattr(
        "asymvlm.storage.fingerprint.AutoConfig.from_pretrained", lambda path, **more: config
    )
    found = []
    for commit in ("aaa", "bbb"):
        config._commit_hash = commit
        found.append(describe_teacher("some/repository", processor))
    assert differences(*found) == ["commit: aaa -> bbb"]
    config._commit_hash = None
    with pytest.raises(DataError, match=r"^some/repository: its commit .* name the folder$"):
        describe_teacher("some/repository", processor)


def test_use_does_not_change_a_teacher_s_description(teacher, page_samples):
    loaded = Teacher.load(str(teacher))
    before = loaded.description()
    loaded.model.generate(**loaded.inputs(page_samples[:3]), max_new_tokens=2)
    assert loaded.description() == before


def test_pictures_behind_paths_count_and_their_place_does_not(folder, tmp_path):
    before = mark(folder)
    assert mark(shutil.copytree(folder, tmp_path / "moved")) == before
    Image.new("RGB", (40, 30), "green").save(folder / "train/images/1.png")
    assert mark(folder) != before and mark(tmp_path / "moved") == before


def test_the_share_of_pages_counts(folder):
    """A split is a selection of the stored table.

    What is not in it must not count, what is must.
    """
    pages = DataSource(str(folder)).pages("train", 0)[0]
    assert fingerprint(pages.select([0])) != fingerprint(pages) != fingerprint(pages.select([1, 0]))
    assert fingerprint(pages.select([0, 1])) == fingerprint(pages)
