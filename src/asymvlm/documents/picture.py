"""Pictures from files of any kind, as people see them, and boxes that move with them."""

from __future__ import annotations

import functools
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

# What a picture is stored as: a file's path, a file's bytes, or what `datasets` keeps of either.
Stored = str | Path | bytes | dict[str, Any]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels, x to the right and y down
_ORIENTATION = 0x0112  # EXIF's tag for how a picture is turned
# Pillow hands these to a program beside it (Ghostscript).
_OF_OTHER_PROGRAMS = ("EPS",)
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@dataclass(frozen=True)
class PictureHead:
    """Size and orientation of a picture, read before any pixel is decoded."""

    stored_size: tuple[int, int]  # width and height as they are in the file
    orientation: int  # EXIF's, 1 to 8

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as the picture is shown."""
        width, height = self.stored_size
        return (height, width) if self.orientation >= 5 else (width, height)

    def shown(self, box: Box) -> Box:
        """Move a box of the stored picture to where it is shown."""
        width, height = self.stored_size
        corners = [_turned(x, y, width, height, self.orientation) for x, y in (box[:2], box[2:])]
        (x0, x1), (y0, y1) = (sorted(axis) for axis in zip(*corners, strict=True))
        return x0, y0, x1, y1


def _turned(x: float, y: float, width: int, height: int, orientation: int) -> tuple[float, float]:
    if orientation in (2, 3, 6, 7):  # mirrored left to right, or what comes to the same
        x, y = (width - x, y) if orientation in (2, 3) else (x, height - y)
    if orientation in (3, 4):
        y = height - y
    if orientation in (7, 8):
        x = width - x
    return (y, x) if orientation >= 5 else (x, y)


def picture_head(stored: Stored) -> PictureHead:
    """Read size and orientation.

    Raises ValueError, in words, where the file holds no one picture.
    """
    with _opened(stored) as image:
        return PictureHead(image.size, _orientation(image))


def read_picture(stored: Stored) -> Image.Image:
    """Read a picture in RGB: turned as EXIF says, 16 bits scaled to 8, on white paper.

    Raises ValueError, in words, where that cannot be done: broken files, several frames,
    floating-point pixels, more pixels than Pillow deems safe.
    """
    with _opened(stored) as image:
        turned = image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
        if turned.mode in _SIXTEEN_BITS:
            return Image.fromarray(_eight_bits(np.asarray(turned))).convert("RGB")
        if turned.mode == "F":
            raise ValueError("has floating-point pixels of unknown range; store 8 or 16 bits")
        if turned.has_transparency_data:
            layer = turned.convert("RGBA")
            paper = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(paper, layer).convert("RGB")
        return turned.convert("RGB")


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if int(pixels.max(initial=0)) > 65535 or int(pixels.min(initial=0)) < 0:
        raise ValueError("has pixels of more than 16 bits; store 8 or 16 bits")
    return (pixels.astype(np.float64) / 257).round().astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    stored = image.getexif().get(_ORIENTATION, 1)
    return int(stored) if stored in range(1, 9) else 1


@contextmanager
def _opened(stored: Stored) -> Iterator[Image.Image]:
    """Open a file whose header says that it is one picture; whatever is wrong is a ValueError."""
    content, name = _content(stored)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # of odd metadata
            image = Image.open(content, formats=_formats())
        with image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # of a camera: a picture and its previews
                raise ValueError(f"has {frames} frames; store each as a picture of its own")
            yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = f"{Image.MAX_IMAGE_PIXELS:,}" if Image.MAX_IMAGE_PIXELS else "Pillow's limit of"
        raise ValueError(f"image {name} has more than {limit} pixels") from None
    except (OSError, SyntaxError, EOFError, MemoryError, struct.error) as error:
        raise ValueError(f"image {name} cannot be read ({error})") from error
    except ValueError as error:
        raise ValueError(f"image {name} {error}") from error


@functools.cache
def _formats() -> list[str]:
    """All that Pillow reads by itself."""
    Image.init()
    return [name for name in Image.OPEN if name not in _OF_OTHER_PROGRAMS]


def _content(stored: Stored) -> tuple[io.BytesIO | Path, str]:
    if isinstance(stored, dict):
        if stored.get("bytes") is not None:
            return io.BytesIO(stored["bytes"]), Path(stored.get("path") or "in the data").name
        stored = stored.get("path") or ""
    if isinstance(stored, bytes):
        return io.BytesIO(stored), "in the data"
    if not Path(stored).is_file():
        raise ValueError(f"image {stored} does not exist")
    return Path(stored), Path(stored).name
