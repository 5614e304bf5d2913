"""Bad records of every source are skipped, counted and named; what is left is used."""

from __future__ import annotations

import gzip
import io
import json

import datasets
import numpy as np
import pytest
from PIL import Image

from asymvlm.documents import samples
from asymvlm.documents.skip_report import SKIPPED_FILE, SkipReport
from asymvlm.documents.sources.hub import hub_pages
from asymvlm.documents.sources.source import DataSource

GOOD = {"image": "good.png", "question": "What?", "answers": ["x"]}
# What is wrong with each, and what the reason says.
BAD = [
    ({"question": None}, "question is empty"),
    ({"question": "  "}, "question is empty"),
    ({"question": 7}, "question is empty"),
    ({"question": ["What?"]}, "question is empty"),
    ({"question": "<image> What?"}, "question holds <image>"),
    ({"question": "What is <|image_pad|>?"}, "question holds"),
    ({"question": "a" * 100_000}, "question has 100,000 characters"),
    ({"answers": None}, "answers must be a list"),
    ({"answers": []}, "answers must be a list"),
    ({"answers": [""]}, "answers must be a list"),
    ({"answers": [3]}, "answers must be a list"),
    ({"answers": {"a": 1}}, "answers must be a list"),
    ({"answers": ["b" * 100_000]}, "answers has 100,000 characters"),
    ({"history": "before"}, "history must hold turns"),
    ({"history": [["a"]]}, "history must hold turns"),
    ({"history": ["ab"]}, "history must hold turns"),
    ({"history": [["a", None]]}, "history must hold turns"),
    ({"history": [["<image>", "b"]]}, "history holds <image>"),
    ({"kind": 3}, "kind must be a text"),
    ({"boxes": "corners"}, "boxes is 'corners'"),
    ({"evidence_boxes": "1 2 3 4"}, "evidence_boxes must be a list"),
    ({"evidence_boxes": [1, 2, 3, 4]}, "four numbers"),
    ({"evidence_boxes": [["1", "2", "3", "4"]]}, "four numbers"),
    ({"evidence_boxes": [[1, 2, 3]]}, "four numbers"),
    ({"evidence_boxes": [[1, 2, 3, None]]}, "four numbers"),
    ({"evidence_boxes": [[1, 2, 3, float("nan")]]}, "four numbers"),
    ({"evidence_boxes": [[9, 2, 3, 9]]}, "x0 < x1"),
    ({"evidence_boxes": [[20, 10, 5, 5]]}, "say boxes: xywh"),
    ({"evidence_boxes": [[2, 2, 400, 9]]}, "outside of the page of 30 x 20"),
    ({"evidence_boxes": [[-9, 2, 4, 9]]}, "outside of the page"),
    ({"evidence_boxes": [[0.1, 0.2, 0.5, 0.6]]}, "say boxes: relative"),
    ({"evidence_boxes": [[0.1, 0.2, 1.5, 0.6]], "boxes": "relative"}, "outside of the page"),
    ({"key_boxes": [[2, 2, 400, 9]]}, "key_boxes"),
    ({"alt_evidence": [[2, 2, 4, 9]]}, "alt_evidence must be a list|four numbers"),
    ({"alt_evidence": [[[2, 2, 400, 9]]]}, "alt_evidence"),
    ({"image": "gone.png"}, "gone.png does not exist"),
    ({"image": "dead.png"}, "dead.png does not exist"),
    ({"image": ""}, "image must be a path"),
    ({"image": None}, "image must be a path"),
    ({"image": 3}, "image must be a path"),
    ({"image": "."}, "does not exist"),
    ({"image": None, "images": []}, "image must be a path"),
    ({"images": ["good.png", 3]}, "image must be a path"),
    ({"image": "text.png"}, "cannot be read"),
    ({"image": "cut.png"}, "cannot be read"),
    ({"image": "empty.png"}, "cannot be read"),
    ({"image": "frames.gif"}, "2 frames"),
    ({"image": "float.tiff"}, "floating-point"),
]
LINES = [
    (b"{not json", "Expecting"),
    (b'"text"', "is not a JSON object"),
    (b"[1]", "is not a JSON object"),
    (b"null", "is not a JSON object"),
    ('{"question": "Gebühr"}'.encode("cp1252"), "is not UTF-8"),
    (b'{"question": ' + b"[" * 100_000, "nested too deeply|Expecting"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "good.png")
    Image.fromarray(noise[:, ::-1].copy()).save(place / "other.png")
    (place / "cut.png").write_bytes((place / "good.png").read_bytes()[:400])
    (place / "text.png").write_text("no picture")
    (place / "empty.png").write_bytes(b"")
    (place / "dead.png").symlink_to(place / "nowhere.png")
    second = Image.fromarray(noise[::-1].copy())
    Image.fromarray(noise).save(place / "frames.gif", save_all=True, append_images=[second])
    Image.fromarray(np.zeros((4, 4), np.float32)).save(place / "float.tiff")
    return place


def check(pages, report, expected, where):
    """All good records are used, and each bad one is named once with its reason and file."""
    used = list(samples(pages, report=report))
    assert {sample.question for sample in used} == {"What?", "And?"}
    names = [item.name for item in report.skipped]
    assert len(names) == len(set(names)) == len(expected)
    reasons = {item.name: item for item in report.skipped}
    for name, reason in expected.items():
        item = reasons[name]
        assert any(word in item.reason for word in reason.split("|")), (name, item, reason)
        assert "\n" not in item.reason and item.file == where


def test_lines_of_json(pictures, tmp_path):
    lines = [json.dumps(GOOD).encode(), json.dumps({**GOOD, "question": "And?"}).encode()]
    lines += [json.dumps({**GOOD, **bad}).encode() for bad, _ in BAD]
    lines += [line for line, _ in LINES]
    file = tmp_path / "train.jsonl"
    file.write_bytes(b"\n".join(lines))
    source = DataSource(str(file), images=str(pictures), val_share=0.999)
    pages, report = source.pages("val", 0)
    reasons = [reason for _, reason in [*BAD, *LINES]]
    expected = {f"train.jsonl:{number}": reason for number, reason in enumerate(reasons, start=3)}
    check(pages, report, expected, str(file))
    report.write(tmp_path / "out")
    written = [
        json.loads(line) for line in (tmp_path / "out" / SKIPPED_FILE).read_text().splitlines()
    ]
    assert len(written) == len(expected) and set(written[0]) == {"name", "reason", "file"}
    assert SkipReport.read(tmp_path / "out").skipped == report.skipped


def test_rows_of_a_dataset(pictures, tmp_path):
    def stored(name):
        path = pictures / name
        return {"bytes": path.read_bytes(), "path": name}

    questions = [("What?", "good.png"), ("And?", "good.png"), (None, "good.png"), ("", "good.png")]
    named = ["cut.png", "text.png", "empty.png", "frames.gif"]
    questions += [("What?", name) for name in named]
    boxes = [[[1.0, 2.0, 9.0, 9.0]]] * len(questions) + [[[1.0, 2.0, 900.0, 9.0]]]
    questions.append(("What?", "good.png"))
    rows = [
        {"image": stored(name), "question": question, "answers": ["x"], "evidence_boxes": box}
        for (question, name), box in zip(questions, boxes, strict=True)
    ]
    rows.append({**rows[0], "image": None})
    features = datasets.Features(
        image=datasets.Image(),
        question=datasets.Value("string"),
        answers=datasets.List(datasets.Value("string")),
        evidence_boxes=datasets.List(datasets.List(datasets.Value("float64"))),
    )
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    source = DataSource(
        str(tmp_path / "saved"), columns={"evidence_boxes": "evidence_boxes"}, val_share=0.999
    )
    reasons = ["question is empty"] * 2 + ["cannot be read"] * 3 + ["2 frames"]
    reasons += ["outside of the page", "has no image"]
    expected = {f"row:{number}": reason for number, reason in enumerate(reasons, start=3)}
    check(*source.pages("val", 0), expected, "")


def test_rows_whose_pictures_are_paths(pictures):
    paths = [str(pictures / name) for name in ("good.png", "good.png", "gone.png", "dead.png")]
    texts = ["What?", "And?", "What?", "What?"]
    data = datasets.Dataset.from_dict(
        {"image": paths, "question": texts, "answers": [["x"]] * len(texts)}
    )
    for typed in (data, data.cast_column("image", datasets.Image())):
        check(*hub_pages(typed, {}), {"row:3": "does not exist", "row:4": "does not exist"}, "")


def test_conversations(pictures, tmp_path):
    def said(*turns):
        parts = zip(("human", "gpt") * len(turns), turns, strict=False)
        return [{"from": who, "value": value} for who, value in parts]

    good = {"image": "good.png", "conversations": said("<image>\nWhat?", "x", "And?", "y")}
    bad = [
        ({"conversations": "text"}, "has no conversations"),
        ({"conversations": ["What?", "x"]}, "turn 1 is no object"),
        ({"conversations": said("What?", None)}, "turn 2 is no object"),
        ({"conversations": [{"from": "human"}, {"value": "x"}]}, "turn 1 is no object"),
    ]
    inner = [
        ({"image": "gone.png"}, "does not exist"),
        ({"image": "cut.png"}, "cannot be read"),
        ({"image": None}, "image must be a path"),
    ]
    entries = [good, *({**good, **change} for change, _ in bad), "text"]
    entries += [{**good, "conversations": said("What?", "x"), **change} for change, _ in inner]
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(entries))
    expected = {f"chat.json:{n}": reason for n, (_, reason) in enumerate(bad, start=2)}
    expected["chat.json:6"] = "has no conversations"
    expected |= {f"chat.json:{n}:1": reason for n, (_, reason) in enumerate(inner, start=7)}
    source = DataSource(str(file), images=str(pictures), val_share=0.999)
    check(*source.pages("val", 0), expected, str(file))


@pytest.mark.parametrize("name", ["train.jsonl", "train.JSONL", "train.jsonl.gz"])
def test_files_as_people_have_them(pictures, tmp_path, name):
    odd = "one\u2028line, and\x85more"
    lines = [json.dumps({**GOOD, "question": odd}, ensure_ascii=False), "", json.dumps(GOOD)]
    content = b"\xef\xbb\xbf" + "\r\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    for path in (tmp_path / name, tmp_path):
        source = DataSource(str(path), images=str(pictures), val_share=0.001)
        if path == tmp_path:
            (tmp_path / "good.png").write_bytes((pictures / "good.png").read_bytes())
            (tmp_path / f"val{name[5:]}").write_bytes((tmp_path / name).read_bytes())
        pages, report = source.pages("train", 0)
        assert [sample.question for sample in samples(pages)] == [odd, "What?"]
        assert not report.skipped


def test_boxes_of_every_form_are_pixels_of_the_page(pictures, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.open(pictures / "good.png").save(buffer, "PNG", exif=exif)
    (tmp_path / "turned.png").write_bytes(buffer.getvalue())
    Image.open(pictures / "good.png").save(tmp_path / "good.png")
    forms = [
        ({}, [3, 4, 9, 8]),
        ({"boxes": "xywh"}, [3, 4, 6, 4]),
        ({"boxes": "relative"}, [0.1, 0.2, 0.3, 0.4]),
    ]
    lines = [
        json.dumps(
            {**GOOD, **form, "image": name, "evidence_boxes": [box], "alt_evidence": [[box]]}
        )
        for name in ("good.png", "turned.png")
        for form, box in forms
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    pages, report = DataSource(str(tmp_path / "a.jsonl"), val_share=0.999).pages("val", 0)
    assert not report.skipped
    plain, turned = (3, 4, 9, 8), (12, 3, 16, 9)  # of 20 x 30 pixels, turned by a quarter
    expected = [plain] * 3 + [turned] * 3
    for sample, box in zip(samples(pages), expected, strict=True):
        assert np.allclose(sample.evidence_boxes, [box]) and np.allclose(
            sample.alt_evidence, [[box]]
        )


def test_equal_names_do_not_mix_and_equal_pictures_are_one_page(pictures, tmp_path):
    for folder, source in (("a", "good.png"), ("b", "other.png"), ("c", "good.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "page.png").write_bytes((pictures / source).read_bytes())
    lines = [
        json.dumps({**GOOD, "image": f"{folder}/page.png", "question": folder}) for folder in "abc"
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    pages, _ = DataSource(str(tmp_path / "a.jsonl"), val_share=0.999).pages("val", 0)
    assert [[q["question"] for q in page] for page in pages["questions"]] == [["a", "c"], ["b"]]
    assert len(set(pages["id"])) == 2
