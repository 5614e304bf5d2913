"""Corruptions of pictures.

A corruption is a pure function of (picture in mode RGB or L, severity 1..5, generator); size, mode
and the place of everything on the picture stay. Kinds and strengths follow Hendrycks and
Dietterich, arXiv 1903.12261, where they have them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ...documents import Sample
from .rewordings import REWORDINGS

Corruption = Callable[[Image.Image, int, np.random.Generator], Image.Image]

_GREY = 128
_PATCHES = 4


def gaussian_noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Add noise of 20 to 97 grey levels' standard deviation to every pixel and channel."""
    deviation = 255 * (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    pixels = np.asarray(image, dtype=np.float64)
    return _picture(pixels + deviation * rng.standard_normal(pixels.shape))


def gaussian_blur(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Blur with a standard deviation of 0.5 to 3 pixels at 224 pixels, scaled with the size.

    Half of the paper's: the strokes of letters are finer than objects are.
    """
    pixels = (0.5, 1, 1.5, 2, 3)[severity - 1]
    return image.filter(ImageFilter.GaussianBlur(pixels * min(image.size) / 224))


def occlusion(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Cover 5 to 25 % of the area by four grey rectangles, less where they overlap.

    After Cutout, DeVries and Taylor, arXiv 1708.04552. At a higher severity each one covers what it
    covered before, and more.
    """
    covered = image.copy()
    pen = ImageDraw.Draw(covered)
    for _ in range(_PATCHES):
        area, aspect = 0.05 * severity / _PATCHES, np.exp(rng.uniform(-np.log(2), np.log(2)))
        size = np.array(image.size) * np.sqrt([area * aspect, area / aspect])
        corner = rng.random(2) * (image.size - size)
        pen.rectangle(
            [*np.floor(corner), *np.ceil(corner + size) - 1],
            fill=_GREY if image.mode == "L" else (_GREY,) * 3,
        )
    return covered


def jpeg(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Compress and decompress at a quality of 25 down to 7.

    Worse with severity over many pictures, not on every one: how far plain paper is rounded goes up
    and down with the quality.
    """
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    with Image.open(buffer) as read:
        return read.convert(image.mode)


def low_contrast(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Shrink each channel's distance from its mean to 40 down to 5 %."""
    share = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    pixels = np.asarray(image, dtype=np.float64)
    mean = pixels.mean((0, 1), keepdims=True)
    return _picture(mean + share * (pixels - mean))


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


PICTURE_CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "gaussian_blur": gaussian_blur,
    "occlusion": occlusion,
    "jpeg": jpeg,
    "low_contrast": low_contrast,
}


def corrupt(sample: Sample, name: str, severity: int, seed: int) -> Sample:
    """Corrupt a sample's pictures or reword its question; answers and boxes stay.

    Drawn from (seed, name, the sample's id) alone, so that a sample comes out the same in any
    order, and a higher severity does more of the same. Severity 0 is the sample itself. Raises
    ValueError for an unknown name or severity.
    """
    known = [*PICTURE_CORRUPTIONS, *REWORDINGS]
    if name not in known:
        raise ValueError(f"name: {name!r} is no corruption; take one of {', '.join(known)}")
    if severity not in range(6):
        raise ValueError(f"severity: {severity!r} is not accepted; take 0 (none) to 5 (the worst)")
    if severity == 0:
        return sample
    drawn_from = hashlib.sha256(f"{seed}/{name}/{sample.id}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(drawn_from))
    if name in REWORDINGS:
        return replace(sample, question=REWORDINGS[name](sample.question, severity, rng))
    change = PICTURE_CORRUPTIONS[name]
    return replace(sample, images=tuple(change(image, severity, rng) for image in sample.images))
