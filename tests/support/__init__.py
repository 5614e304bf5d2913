"""What several test files share."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "tests/support/small.yaml"
RECEIPTS = ROOT.parent / "shared/data/receipts"


def child_environment(**more):
    """The environment of a process that a test starts, as from a shell.

    Without the wandb service that a training in this process began: there a run that is killed
    would still be in use when it is resumed.
    """
    kept = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    return kept | more
