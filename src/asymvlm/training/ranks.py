"""SIGTERM and SIGINT in trainings with several processes."""

from __future__ import annotations

import os
import signal
from typing import Any

import lightning as L
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from ..cli.signals import launcher


def leave_signals_to_the_command(trainer: L.Trainer) -> None:
    """Take Lightning's own SIGTERM handler out of the way of `cli.signals.stoppable`.

    It broadcasts from inside the handler, which no other rank answers, and ends with code 0. What
    it does for SLURM's requeueing stays.
    """
    connector: Any = trainer._signal_connector
    connector._sigterm_notifier_fn = lambda signum, frame: None


def end_other_ranks(trainer: L.Trainer) -> None:
    """End the ranks that Lightning started; others get the signal from their launcher.

    A rank that was started so has told rank 0 already (see `cli.signals`), which may be waiting for
    it in a collective: it ends at once, since its closed connections end the waiting. It ends with
    0, since Lightning kills rank 0 with SIGKILL when it finds another code; rank 0's is the
    command's.
    """
    if launcher() is not None:
        os._exit(0)
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        trainer.strategy.launcher.kill(signal.SIGTERM)
