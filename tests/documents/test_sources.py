"""Somebody's data in each of its forms becomes the same samples."""

from __future__ import annotations

import json

import datasets
import pytest
from PIL import Image

from asymvlm.documents import samples
from asymvlm.documents.sources.source import DataSource
from asymvlm.errors import DataError


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def both_splits(source):
    found = {split: list(samples(source.pages(split, 0)[0])) for split in ("train", "val")}
    assert not {one.images[0].tobytes() for one in found["train"]} & {
        one.images[0].tobytes() for one in found["val"]
    }
    return found["train"] + found["val"]


def test_llava_json(pictures, tmp_path):
    entries = [
        {
            "id": number,
            "image": f"{number}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": f"page {number}"},
                {"from": "human", "value": "Why?"},
                {"from": "gpt", "value": "because"},
            ],
        }
        for number in range(12)
    ]
    file = tmp_path / "chat.json"
    file.write_text(json.dumps([*entries, {"id": "none"}, {**entries[0], "image": "gone.png"}]))
    source = DataSource(str(file), images=str(pictures), val_share=0.3)
    asked = both_splits(source)
    assert len(asked) == 24 and {one.question for one in asked} == {"What is it?", "Why?"}
    assert {one.answers for one in asked} == {
        ("because",),
        *((f"page {number}",) for number in range(12)),
    }
    reasons = [item.reason for item in source.pages("train", 0)[1].skipped]
    assert reasons == ["has no conversations"] + ["image gone.png does not exist"] * 2


def test_jsonl_file_with_several_pictures_a_sample(pictures, tmp_path):
    lines = [
        {"images": [f"{n}.png", f"{n + 1}.png"], "question": "Same?", "answers": ["no"]}
        for n in range(0, 12, 2)
    ]
    (pictures / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    asked = both_splits(DataSource(str(pictures / "pairs.jsonl"), val_share=0.4))
    assert len(asked) == 6 and all(
        len(one.images) == 2 and one.image is one.images[0] for one in asked
    )


def test_a_saved_dataset_with_its_own_columns(pictures, tmp_path):
    rows = [
        {"scan": str(pictures / f"{n}.png"), "query": f"q{n}" if n else "", "label": ["a", "b"]}
        for n in range(12)
    ]
    data = datasets.Dataset.from_list(rows).cast_column("scan", datasets.Image())
    data.save_to_disk(str(tmp_path / "saved"))
    columns = {"image": "scan", "question": "query", "answers": "label"}
    source = DataSource(str(tmp_path / "saved"), columns=columns, val_share=0.3)
    assert len(both_splits(source)) == 11
    assert source.pages("train", 0)[1].skipped == [("row:1", "question is empty", "")]
    with pytest.raises(DataError, match=r"no image, question, answers; it has scan, query, label"):
        DataSource(str(tmp_path / "saved")).pages("train", 0)


def test_a_dataset_with_splits_of_its_own(pictures, tmp_path):
    rows = [
        {"image": str(pictures / f"{n}.png"), "question": f"q{n}", "answers": ["a"]}
        for n in range(12)
    ]
    parts = {"train": rows[:9], "validation": rows[9:]}
    made = {
        name: datasets.Dataset.from_list(part).cast_column("image", datasets.Image())
        for name, part in parts.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    assert [
        len(DataSource(str(tmp_path / "saved")).pages(split, 0)[0]) for split in ("train", "val")
    ] == [9, 3]


def test_bad_sources_say_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match=r"^path: /nowhere does not exist"):
        DataSource("/nowhere").pages("train", 0)
    with pytest.raises(ValueError, match=r"^val_share: 2 must lie"):
        DataSource(str(tmp_path), val_share=2).pages("train", 0)
    (tmp_path / "odd.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="must hold a list of conversations"):
        DataSource(str(tmp_path / "odd.json")).pages("train", 0)
