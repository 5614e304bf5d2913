"""A saved directory of any family, somebody's pages.

Train two steps, export, load, prune, generate.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from PIL import Image
from support import ROOT, families, tiny_processors

import asymvlm
from asymvlm.backbone.processor import pictures_only
from asymvlm.distillation.teacher import Teacher
from asymvlm.methods.random import Random
from asymvlm.training.main import main

RECEIPTS = ROOT.parent / "shared/data/receipts"
ROWS = {family.name: family for family in [*families.IN_SEQUENCE, *families.CROSS_ATTENTION]}


@dataclass
class Asked:
    images: tuple[Image.Image, ...]
    question: str
    history: tuple[tuple[str, str], ...] = ()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pictures of several shapes, some samples with two of them."""
    folder = tmp_path_factory.mktemp("pages")
    for number in range(6):
        Image.new("RGB", (20 + 6 * number, 30), (40 * number, 90, 0)).save(folder / f"{number}.png")
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        lines = [
            {"image": f"{n}.png", "question": "What is the total ?", "answers": [str(n)]}
            for n in numbers
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def saved(name, directory):
    """A tiny model and its processor in one directory."""
    with pictures_only():
        processor = tiny_processors.PROCESSORS[name]()
        processor.save_pretrained(directory)
    ROWS[name].build().save_pretrained(directory)


# Lightning's and jsonargparse's own, as a user would see them.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", tiny_processors.PROCESSORS)
def test_train_export_load_prune_generate(name, pages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    saved(name, tmp_path / "teacher")
    flags = {
        "model.teacher": "teacher",
        "data.path": str(pages),
        "data.batch_size": "2",
        "trainer.max_steps": "2",
        "trainer.devices": "1",
        "trainer.logger": "false",
        "trainer.enable_model_summary": "false",
        "trainer.default_root_dir": "out",
        "trainer.accelerator": "cpu",
    }
    arguments = [part for key, value in flags.items() for part in (f"--{key}", value)]
    assert main(["--config", str(ROOT / "configs/any.yaml"), *arguments]) == 0
    scorer = asymvlm.load_scorer(tmp_path / "out/scorer")
    assert scorer.about["training"]["metrics"]["val/loss"] > 0

    teacher = Teacher.load("teacher")
    asked = [
        Asked((Image.new("RGB", size, "white"),), "What is it ?") for size in ((20, 28), (40, 28))
    ]
    inputs = teacher.prompter(asked).inputs
    with torch.no_grad(), asymvlm.prune(teacher.model, scorer, keep=0.5) as report:
        made = teacher.model.generate(**inputs, max_new_tokens=3, pad_token_id=0)
    call = report.calls[0]
    assert all(0 < after < before for before, after in zip(call.before, call.after, strict=True))
    assert torch.equal(made[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])


STAGE_TWO = {"model.start": "null", "model.scorer": "asymvlm.scorers.low_rank.LowRankScorer"}


# Lightning's and jsonargparse's own, as a user would see them.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "name,boxes,says",
    [
        (
            "Llava",
            [],
            "model.target: {} learns from evidence_boxes, and no question of data.path pages has "
            "any",
        ),
        (
            "InternVL",
            [[0, 0, 9, 9]],
            "cannot be laid on the tokens of InternVLForConditionalGeneration",
        ),
    ],
)
@pytest.mark.parametrize(
    "stage",
    [
        ("tiny.yaml", "MixedTarget", {}),
        ("tiny-stage2.yaml", "EvidenceTarget", STAGE_TWO),
    ],
    ids=["stage one", "stage two"],
)
def test_missing_boxes_are_one_message(stage, name, boxes, says, tmp_path, monkeypatch, capsys):
    config, target, more = stage
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    saved(name, tmp_path / "teacher")
    (tmp_path / "pages").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "pages/0.png")
    record = {
        "image": "0.png",
        "question": "What is the total ?",
        "answers": ["7"],
        "evidence_boxes": boxes,
    }
    for split in ("train", "val"):
        (tmp_path / f"pages/{split}.jsonl").write_text(json.dumps(record))
    flags = {
        "model.teacher": "teacher",
        "data.path": "pages",
        "trainer.devices": "1",
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
        "trainer.callbacks": "asymvlm.training.callbacks.RunCheckpoint",
        **more,
    }
    arguments = [part for key, value in flags.items() for part in (f"--{key}", value)]
    assert main(["--config", str(ROOT / "configs" / config), *arguments]) == 1
    assert says.format(target) in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Llava", "Qwen2_5_VL", "Gemma3"])
@torch.no_grad()
def test_adapters_around_the_model(name):
    """A PeftModel is pruned like the model inside it, adapters on and off."""
    from peft import LoraConfig, get_peft_model

    model = ROWS[name].build()
    inputs = families.batch(model, ROWS[name])
    with asymvlm.prune(model, Random(), keep=0.5):
        plain = model(**inputs).logits
    config = LoraConfig(
        r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=False
    )
    adapted = get_peft_model(model, config)
    with asymvlm.prune(adapted, Random(), keep=0.5) as report:
        changed = adapted(**inputs).logits
        made = adapted.generate(**inputs, max_new_tokens=3)
        with adapted.disable_adapter():
            assert torch.equal(adapted(**inputs).logits, plain)
    assert len(report.calls) == 3 and not torch.allclose(changed, plain)
    assert made.shape[1] == inputs["input_ids"].shape[1] + 3


@pytest.mark.filterwarnings("default")
def test_pipeline_with_one_argument(tmp_path):
    from transformers import AutoModelForImageTextToText, pipeline

    from asymvlm.backbone.processor import load_processor

    saved("Llava", tmp_path)
    parts = {
        "model": AutoModelForImageTextToText.from_pretrained(tmp_path),
        "processor": load_processor(str(tmp_path)),
    }
    content = [
        {"type": "image", "image": Image.new("RGB", (20, 28), "red")},
        {"type": "text", "text": "What is it ?"},
    ]
    chat = [{"role": "user", "content": content}]
    plain = pipeline("image-text-to-text", **parts)
    same = pipeline(
        "image-text-to-text", **parts, pipeline_class=asymvlm.pruned_pipeline(Random(), keep=1.0)
    )
    assert same(text=chat, max_new_tokens=4) == plain(text=chat, max_new_tokens=4)
    fewer = pipeline(
        "image-text-to-text", **parts, pipeline_class=asymvlm.pruned_pipeline(Random(), keep=5)
    )
    fewer(text=[chat, chat], max_new_tokens=4)
    assert fewer.report.calls[-1].after == [5]
    with pytest.raises(ValueError, match=r"keep: 2\.0"):
        asymvlm.pruned_pipeline(Random(), keep=2.0)


@pytest.mark.skipif(not RECEIPTS.is_dir(), reason="the receipts are not on this machine")
@pytest.mark.filterwarnings("default")
def test_receipts_at_native_resolution(tmp_path, monkeypatch, capsys):
    """Real pages of different sizes, so a different number of tokens each.

    Broken records among them.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    with pictures_only():
        processor = tiny_processors.qwen("Qwen2_5_VL", patch=14, most_pixels=1024 * 1024)
        processor.save_pretrained("teacher")
    families.qwen2_5_vl(patch=14).build().save_pretrained("teacher")
    for split, most in (("train", 40), ("val", 12)):
        lines = (
            (RECEIPTS / split / "questions.jsonl").read_text(encoding="utf-8").splitlines()[:most]
        )
        records = [
            {**record, "image": str(RECEIPTS / record["image"])}
            for record in map(json.loads, lines)
        ]
        broken = [{**records[0], "image": "gone.jpg"}, {**records[0], "question": ""}]
        (tmp_path / f"{split}.jsonl").write_text(
            "\n".join([*map(json.dumps, records + broken), "{"])
        )
    flags = [
        "--model.teacher=teacher",
        f"--data.path={tmp_path}",
        "--data.batch_size=4",
        "--trainer.limit_train_batches=2",
        "--trainer.logger=false",
        "--trainer.enable_model_summary=false",
        "--trainer.default_root_dir=out",
        "--trainer.accelerator=cpu",
        "--trainer.devices=1",
        "--trainer.limit_val_batches=2",
        "--model.target=asymvlm.targets.MixedTarget",
        "--model.target.first=asymvlm.targets.AttentionTarget",
        "--model.target.second=asymvlm.targets.EvidenceTarget",
    ]
    assert main(["--config", str(ROOT / "configs/any.yaml"), *flags]) == 0
    printed = capsys.readouterr().out
    assert "skipped 3 of 43 records" in printed and "image gone.jpg does not exist" in printed
    assert (
        asymvlm.load_scorer(tmp_path / "out/scorer").about["training"]["metrics"]["val/evidence@25"]
        > 0
    )
