"""Write the trained teacher as a standard transformers directory, with CLIP's text encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import save_file

from ..limits import check_at_least
from ..methods.common.clip_similarity import HEAD_FILE
from ..storage.atomic import check_replaceable, draft_directory, draft_file, publish_directory
from .recipe import TeacherRecipe
from .tokens import caption_tokenizer

CLIP_FOLDER = "clip"
REPORT_FILE = "report.json"


class ExportTeacher(L.Callback):
    """Writes `directory` at the end of `fit` and reports how well the teacher reads.

    AutoProcessor and AutoModelForImageTextToText load it.

    `directory/clip` holds what `asymvlm.methods.common.clip_similarity` reads: the text encoder
    that the tower's CLS was trained against, its tokenizer, and the tower's last norm and
    projection.

    Args:
        directory: Where it goes: a new or empty folder, or an earlier teacher's, which is replaced.
        check_pages: Held-out pages on which the report is made.
    """

    def __init__(self, directory: str = "checkpoints/tiny-teacher", check_pages: int = 200) -> None:
        check_at_least(1, {"check_pages": check_pages})
        self.directory, self.check_pages = Path(directory), check_pages

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the directory; raises ValueError where it holds something else."""
        check_replaceable(self.directory, _is_teacher, "teacher's directory")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TeacherRecipe)
        export_teacher(pl_module, self.directory)
        print(f"teacher: {self.directory}")
        from .report import reading_report

        report = reading_report(str(self.directory), self.check_pages)
        with draft_file(self.directory / REPORT_FILE) as draft:
            draft.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(report, indent=2))


def export_teacher(recipe: TeacherRecipe, directory: Path) -> None:
    """Write a teacher's directory at once, with weights in bf16, which halves the files.

    Of an earlier teacher all files are replaced that this one has too; others stay. Raises
    ValueError for a directory that is something else.
    """
    target = check_replaceable(directory, _is_teacher, "teacher's directory")
    with draft_directory(target) as draft:
        teacher: Any = recipe.teacher
        teacher.to(torch.bfloat16).save_pretrained(draft)
        recipe.processor.save_pretrained(draft)
        text_side: Any = recipe.reader.text_side
        text_side.to(torch.bfloat16).save_pretrained(draft / CLIP_FOLDER)
        caption_tokenizer(recipe.processor.tokenizer).save_pretrained(draft / CLIP_FOLDER)
        norm = teacher.model.vision_tower.post_layernorm
        head = {
            "visual_projection.weight": recipe.reader.visual_projection.weight,
            "post_layernorm.weight": norm.weight,
        }
        head = {**head, "post_layernorm.bias": norm.bias}
        save_file(
            {name: part.detach().to(torch.bfloat16).contiguous() for name, part in head.items()},
            draft / CLIP_FOLDER / HEAD_FILE,
        )
        publish_directory(draft, target, [*(entry.name for entry in draft.iterdir()), REPORT_FILE])


def _is_teacher(directory: Path) -> bool:
    return all(
        (directory / name).exists() for name in ("config.json", "model.safetensors", CLIP_FOLDER)
    )
