"""Which split serves as which: one rule, said aloud."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from asymvlm.documents.sources.source import DataSource
from asymvlm.documents.sources.splits import choose_split
from asymvlm.errors import DataError


@pytest.mark.parametrize(
    ("there", "train", "val", "test"),
    [
        (["train", "val", "test"], "train", "val", "test"),
        (["train", "validation"], "train", "validation", "validation"),
        (["Train", "Dev"], "Train", "Dev", "Dev"),
        (["training", "eval", "testing"], "training", "eval", "testing"),
        (["train", "test"], "train/", "train/", "test"),
        (["train"], "train/", "train/", "train/"),
        (["data"], "data/", "data/", "data/"),
        (["test"], None, None, "test"),
        (["validation"], None, "validation", "validation"),
        (["val", "test"], None, "val", "test"),
        (["one", "two"], None, None, None),
    ],
)
def test_one_rule(there, train, val, test):
    for split, expected in (("train", train), ("val", val), ("test", test)):
        if expected is None:
            with pytest.raises(DataError, match=rf"no split for '{split}', only .*; name it one"):
                choose_split(split, there, "somewhere")
            continue
        choice = choose_split(split, there, "somewhere")
        assert (choice.name + "/" * choice.shared) == expected


def test_a_picture_is_in_one_split_whatever_its_name(tmp_path, capsys):
    """One row per question, and the same picture under other names."""
    rng, lines = np.random.default_rng(0), []
    for number in range(30):
        picture = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        for copy in range(3):
            picture.save(tmp_path / f"{copy}-{number}.png")
            record = {"image": f"{copy}-{number}.png", "question": f"{number}", "answers": ["a"]}
            lines.append(json.dumps(record))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    source = DataSource(str(tmp_path / "rows.jsonl"), val_share=0.3)
    asked = {}
    for split in ("train", "val"):
        pages, report = source.pages(split, 0)
        asked[split] = [q["question"] for page in pages["questions"] for q in page]
        assert report.used == 90
    assert not set(asked["train"]) & set(asked["val"]) and len(asked["val"]) % 3 == 0
    assert len(asked["train"]) + len(asked["val"]) == 90 and 0 < len(asked["val"]) < 45
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{source.path}, train: 70 % of the pages of 'data', chosen")
    assert len(said) == 2


def test_old_shares_do_not_depend_on_the_order(tmp_path):
    rng, lines = np.random.default_rng(1), []
    for number in range(20):
        picture = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "question": "?", "answers": ["a"]}))
    found = []
    for order in (lines, lines[::-1]):
        (tmp_path / "rows.jsonl").write_text("\n".join(order))
        source = DataSource(str(tmp_path / "rows.jsonl"), val_share=0.3)
        found.append(set(source.pages("val", 0)[0]["id"]))
    assert found[0] == found[1]
