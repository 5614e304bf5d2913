"""The generated world.

Deterministic, honest about its answers, and one interface with folders of real pages.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support import ROOT

from asymvlm.documents import samples
from asymvlm.documents.cells import box_shares, lies_on_page, token_shares
from asymvlm.documents.sources.folder import folder_pages
from asymvlm.documents.sources.source import DataSource
from asymvlm.documents.world.generate import LAYOUTS, generate
from asymvlm.documents.world.generated import fingerprint, generated_pages
from asymvlm.errors import DataError

RECEIPTS = ROOT.parent / "shared/data/receipts"
PAGES = [generate(5, "val", index, 20, 6) for index in range(40)]


def test_same_number_same_page_and_other_splits_differ():
    page, questions = generate(1, "train", 7)
    again, same = generate(1, "train", 7)
    assert np.array_equal(page.image, again.image) and questions == same
    assert not np.array_equal(page.image, generate(1, "test", 7)[0].image)


@pytest.mark.parametrize("page,questions", PAGES[:12])
def test_answers_follow_from_the_fields(page, questions):
    by_name = {}
    for field in page.fields:
        by_name.setdefault(field.name, []).append(field)
    for question in questions:
        (answer,) = question.answers
        if question.group == "localised":
            fields = [f for f in page.fields if f.value_box in question.evidence_boxes]
            assert str(fields[0].value) == answer
            assert fields[0].name in question.text and (fields[0].column or "") in question.text
        elif question.kind == "presence":
            words = question.text.replace("?", " ").split()
            assert (answer == "yes") == any(name in words for name in by_name)
        elif question.kind == "largest":
            column = next(
                (
                    f.column
                    for f in page.fields
                    if f.column and f.column in question.text.split("?")[0].split()
                ),
                None,
            )
            column = column or next(
                (f.column for f in page.fields if f.column and f"{f.column}" in question.text), None
            )
            rivals = [f for f in page.fields if f.column == column]
            assert max(rivals, key=lambda f: f.value).name == answer
        else:
            axis, names = (
                (0, ("left", "right")) if answer in ("left", "right") else (1, ("top", "bottom"))
            )
            second = sum(f.centre[axis] > page.size / 2 for f in page.fields)
            assert answer == names[second > len(page.fields) - second]


@pytest.mark.parametrize("page,questions", PAGES[:12])
def test_boxes_lie_on_the_page_and_hold_ink(page, questions):
    grey = np.asarray(page.image.convert("L")).astype(float)
    background = np.median(grey)
    for question in questions:
        for x0, y0, x1, y1 in question.evidence_boxes:
            assert 0 <= x0 < x1 <= page.size and 0 <= y0 < y1 <= page.size
            assert (
                np.abs(grey[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] - background).max() > 60
            )


def test_every_layout_and_kind_occurs():
    kinds = {question.kind for _, questions in PAGES for question in questions}
    assert kinds == {
        "form_value",
        "receipt_value",
        "table_cell",
        "chart_value",
        "presence",
        "largest",
        "half",
    }
    assert len({page.kind for page, _ in PAGES}) == len(LAYOUTS)


def test_written_once_and_read_back(tmp_path):
    pages = generated_pages(tmp_path, "train", 6, seed=2)
    marks = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")}
    again = generated_pages(tmp_path, "train", 6, seed=2)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")} == marks
    assert (
        fingerprint(pages)
        == fingerprint(again)
        != fingerprint(generated_pages(tmp_path, "test", 6, seed=2))
    )
    asked = list(samples(pages))
    assert len({sample.id for sample in asked}) == len(asked) and asked[0].image.size == (224, 224)


def test_cells_share_a_box():
    shares = box_shares((7, 0, 21, 14), (28, 28), (2, 2))
    assert shares.tolist() == [[0.5, 0.5], [0, 0]]


def write(folder, records, split="train"):
    (folder / split).mkdir(parents=True, exist_ok=True)
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / split / "questions.jsonl").write_text("\n".join(lines))


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (40, 80), "white").save(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    return tmp_path


def test_broken_records_are_skipped_counted_and_named(folder):
    good = {
        "image": "a.png",
        "question": "What?",
        "answers": ["x"],
        "evidence_boxes": [[0, 0, 20, 40]],
    }
    write(
        folder,
        [
            good,
            good | {"question": "And?", "kind": "total"},
            good | {"image": "broken.jpg"},
            good | {"image": "none.png"},
            good | {"question": " "},
            good | {"answers": []},
            good | {"evidence_boxes": [[5, 5, 1, 9]]},
            "{not json",
            '"text"',
        ],
    )
    pages, report = folder_pages(folder, "train")
    assert len(pages) == 1 and report.used == 2
    reasons = {item.name: item.reason for item in report.skipped}
    assert (
        len(reasons) == 7
        and "questions.jsonl:3" in reasons
        and "cannot be read" in reasons["questions.jsonl:3"]
    )
    assert (
        "does not exist" in reasons["questions.jsonl:4"]
        and "question is empty" in reasons["questions.jsonl:5"]
    )
    assert report.lines()[0] == "skipped 7 of 9 records:"
    first, second = samples(pages)
    assert second.group == "total" and first.answers == ("x",)
    row, column = torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")
    grid = torch.stack([torch.zeros_like(row), row, column], -1).reshape(-1, 3)
    assert token_shares(first, first.evidence_boxes, grid).tolist() == [1, 0, 0, 0]
    nowhere = torch.tensor([[0, -1, -1]])  # a CLS
    second_page = grid + torch.tensor([1, 0, 0])
    both = replace(first, images=(*first.images, *first.images))
    assert token_shares(
        both, first.evidence_boxes, torch.cat([nowhere, grid, second_page])
    ).tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0]
    tiles = torch.cat([grid, second_page])
    assert (
        not lies_on_page(first, tiles)
        and not token_shares(first, first.evidence_boxes, tiles).any()
    ), "tiles of one page"


def test_nothing_usable_is_an_error(folder):
    with pytest.raises(DataError, match="has no train/"):
        DataSource(str(folder)).pages("train", 0)
    write(folder, [{"image": "a.png", "question": ""}])
    with pytest.raises(DataError, match=r"no usable record.*question is empty"):
        folder_pages(folder, "train")


def test_contact_sheet_shows_pages_and_boxes(tmp_path):
    from asymvlm.evaluation.contact_sheet import contact_sheet

    sheet = np.asarray(
        contact_sheet(generated_pages(tmp_path, "val", 6, 0, 1, 0), columns=3, cell=228)
    )
    assert sheet.shape == (456, 684, 3)
    red = (sheet == (230, 30, 30)).all(-1)
    assert all(red[y : y + 228, x : x + 228].any() for y in (0, 228) for x in (0, 228, 456))


@pytest.mark.skipif(not RECEIPTS.is_dir(), reason="the receipts are not on this machine")
def test_real_receipts_are_read_with_their_boxes():
    pages, report = folder_pages(RECEIPTS, "val")
    assert len(pages) == 46 and not report.skipped
    asked = list(samples(pages))
    assert len(asked) == report.used and {"total", "date"} <= {sample.group for sample in asked}
    for sample in asked:
        width, height = sample.image.size
        for boxes in (sample.evidence_boxes, *sample.alt_evidence):
            assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in boxes)
        assert sample.evidence_boxes
