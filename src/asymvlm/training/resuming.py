"""Resume from a checkpoint: which file, what differs from it, and which run it belongs to."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import ModelCheckpoint

from ..errors import DataError
from ..export import CONTENTS
from ..storage.atomic import draft_file
from ..storage.fingerprint import flat
from ..storage.weights_fingerprint import weights_fingerprint

RUN = "run"  # where a checkpoint keeps the id of its run
SETTINGS = "settings"  # and the settings it was trained with
CONFIG_FILE = "config.yaml"
# Settings on which neither weights nor validation losses depend.
_ABOUT_THE_MACHINE = {"data.num_workers", "data.root", "data.teacher_batch_size"}
# What callbacks call the best value so far.
_BEST = {"best_model_score", "best_score"}


def find_checkpoint(given: str, trainer: L.Trainer) -> Path:
    """The file that `--ckpt_path` names; "last" is the newest `last*.ckpt` of this run's folders.

    Raises DataError where there is none.
    """
    if given != "last":
        if not Path(given).is_file():
            raise DataError(f"ckpt_path: {given} does not exist; leave it out to start anew")
        return Path(given)
    folders = [Path(trainer.default_root_dir)]
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is not None:
            folders.append(Path(callback.dirpath))
    found = {file for folder in folders for file in folder.glob("last*.ckpt") if file.is_file()}
    if not found:
        where = " or ".join(str(folder) for folder in dict.fromkeys(folders))
        raise DataError(
            f'ckpt_path: "last" finds no last.ckpt in {where}; name the file, or leave it out to '
            "start anew"
        )
    return max(found, key=lambda file: (file.stat().st_mtime_ns, file.name))


class RunRecord(L.Callback):
    """Keeps a run's settings and id in its checkpoints, and tells a resumed run what differs.

    The id stays the same when a run is resumed with the settings that weights and validation
    losses depend on. With others, losses of the earlier part say nothing about this one: the best
    checkpoint so far does not count any more, and the id is new, so that `ExportScorer` publishes
    nothing of the earlier part.
    """

    def __init__(self, parser: ArgumentParser, config: Namespace, **options: Any) -> None:
        self.parser, self.config = parser, config
        self.run_id = uuid.uuid4().hex

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write all settings as config.yaml into the run's folder."""
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            with draft_file(folder / CONFIG_FILE) as draft:
                draft.write_text(self._dump(), encoding="utf-8")

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[RUN] = self.run_id
        checkpoint[SETTINGS] = yaml.safe_load(self._dump())

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        then, now = _inputs_then(checkpoint), _inputs_now(trainer, pl_module)
        settings = checkpoint.get(SETTINGS)
        if settings is not None:
            then |= flat(settings)
            now |= flat(yaml.safe_load(self._dump()))
        differ = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
        differ = [key for key in differ if key != "ckpt_path"]
        # An earlier version kept none, so nobody knows.
        changed = settings is None or any(_decides(key) for key in differ)
        if trainer.is_global_zero:
            same = "" if differ else ", all settings as they were"
            same = ", its settings are not known" if settings is None else same
            print(f"resuming {trainer.ckpt_path} at step {checkpoint.get('global_step')}{same}")
            _print_differences(differ, then, now)
        if not changed:
            self.run_id = checkpoint.get(RUN, self.run_id)
            return
        states = checkpoint.get("callbacks", {})
        for name in [name for name, state in states.items() if _BEST & state.keys()]:
            # Early stopping and checkpoints compare with this best value.
            del states[name]

    def _dump(self) -> str:
        return self.parser.dump(self.config, skip_unset=False)


def of_another_run(stored: Mapping[str, Any], trainer: L.Trainer) -> bool:
    """Return whether a checkpoint's contents were saved by another run than the trainer's."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    ids = [callback.run_id for callback in callbacks if isinstance(callback, RunRecord)]
    return bool(ids) and stored.get(RUN) not in ids


def _inputs_then(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    config = checkpoint.get(CONTENTS, {}).get("config", {})
    prints = config.get("data", {}).get("fingerprints", {})
    found = {f"data fingerprint of {split}": value for split, value in prints.items()}
    return {"model.teacher's weights": config.get("teacher", {}).get("weights"), **found}


def _inputs_now(trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
    prints = getattr(trainer.datamodule, "fingerprints", {})  # type: ignore[attr-defined]
    found = {f"data fingerprint of {split}": value for split, value in prints.items()}
    return {"model.teacher's weights": weights_fingerprint(_teacher_of(module)), **found}


def _teacher_of(module: L.LightningModule) -> str:
    observer = getattr(module, "observer", None)
    return "" if observer is None else str(observer.path)


def _print_differences(keys: list[str], then: dict[str, Any], now: dict[str, Any]) -> None:
    for key in keys:
        change = f"{_short(then.get(key))} -> {_short(now.get(key))}"
        print(f"  differs from the checkpoint: {key}: {change}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _decides(key: str) -> bool:
    """Return whether weights or validation losses depend on a setting."""
    return key.startswith(("model.", "data")) and key not in _ABOUT_THE_MACHINE
