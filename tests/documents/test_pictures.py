"""One function turns any file into the picture that people see, and boxes move with it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from asymvlm.documents.picture import picture_head, read_picture


def stored(image, kind="PNG", **more):
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def inked(mode="RGB", paper=255, ink=0):
    pixels = np.full((20, 30), paper, np.uint8)
    pixels[3:8, 5:15] = ink
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("way", range(1, 9))
def test_exif_turns_the_picture_and_its_boxes(way):
    exif = Image.Exif()
    exif[0x0112] = way
    file = stored(inked(), exif=exif)
    head, picture = picture_head(file), np.asarray(read_picture(file))
    rows, columns = np.where(picture[..., 0] == 0)
    seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert head.shown((5, 3, 15, 8)) == seen
    assert head.size == picture.shape[1::-1] == ((30, 20) if way < 5 else (20, 30))


def test_sixteen_bits_are_scaled():
    pixels = np.full((4, 4), 65535, np.uint16)
    pixels[0] = 0
    pixels[1] = 257 * 100
    picture = np.asarray(read_picture(stored(Image.fromarray(pixels))))
    assert picture[:, 0, 0].tolist() == [0, 100, 255, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_paper(mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (10, 10, 10, 255))
    file = stored(image.convert(mode)) if mode != "P" else stored(image.quantize(4))
    picture = np.asarray(read_picture(file))
    assert picture[3, 3].tolist() == [255, 255, 255] and (picture[0, 0] < 20).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes_become_rgb(mode):
    picture = read_picture(stored(inked(mode), "TIFF" if mode == "CMYK" else "PNG"))
    pixels = np.asarray(picture)
    assert picture.mode == "RGB" and (pixels[4, 6] < 40).all() and (pixels[0, 0] > 215).all()


def test_what_cannot_be_a_picture_says_why(tmp_path, monkeypatch):
    several = stored(inked(), "GIF", save_all=True, append_images=[inked(ink=90)])
    cut = stored(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    reasons = {
        "has 2 frames; store each as a picture of its own": several,
        "cannot be read": cut[: len(cut) // 2],
        "floating-point": stored(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"),
        "more than 16 bits": stored(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"),
        "does not exist": tmp_path / "gone.png",
        "cannot identify": b"no picture at all",
    }
    for reason, file in reasons.items():
        with pytest.raises(ValueError, match=reason):
            read_picture(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for limit in (100, 400):  # Pillow warns above the one, and raises above twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match=f"more than {limit} pixels"):
            picture_head(stored(inked()))


def test_no_program_is_started_for_a_picture(monkeypatch):
    """Pillow gives PostScript to Ghostscript."""

    def never(*args, **more):
        raise AssertionError("a program is started")

    monkeypatch.setattr("subprocess.Popen.__init__", never)
    with pytest.raises(ValueError, match="cannot be read"):
        read_picture(stored(inked(), "EPS"))
    assert read_picture(stored(inked(), "WEBP")).size == (30, 20)
