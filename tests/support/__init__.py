"""What several test files share."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "tests/support/small.yaml"
RECEIPTS = ROOT.parent / "shared/data/receipts"
