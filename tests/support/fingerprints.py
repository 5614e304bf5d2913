"""Settings, teachers and folders to take fingerprints of."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import pytest
from PIL import Image

import asymvlm
from asymvlm.backbone.processor import load_processor
from asymvlm.documents.sources.source import DataSource
from asymvlm.documents.world.generated import fingerprint
from asymvlm.storage.fingerprint import describe, describe_teacher, key_of


class Own(asymvlm.Method):
    """A user's method with settings of every kind, private ones too."""

    def __init__(self, power=1.0, weights=None, extra=None):
        self._power, self.weights, self._extra = power, weights, extra

    def score(self, tokens):
        return tokens.vision.sum(-1) ** self._power


@dataclass
class Setting:
    depth: int = 1


def key(value):
    return key_of(describe(value))


@pytest.fixture
def copied(teacher, tmp_path):
    return shutil.copytree(teacher, tmp_path / "copied")


def about(path):
    return describe_teacher(str(path), load_processor(str(path)))


def edit(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def folder(tmp_path):
    """Two pages in a folder, as somebody has them."""
    place = tmp_path / "own"
    for split in ("train", "val"):
        (place / split / "images").mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 30), (number * 40, 9, 9)).save(
                place / split / f"images/{number}.png"
            )
        lines = [
            {"image": f"images/{number}.png", "question": f"What {number}?", "answers": ["a"]}
            for number in range(2)
        ]
        (place / split / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return place


def mark(path, split="train", **more):
    return fingerprint(DataSource(str(path), **more).pages(split, 0)[0])
