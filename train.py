"""Train an importance scorer: `python train.py [--config configs/X.yaml] [--dotted.flag value]`."""

import sys

from asymvlm.cli.door import enter

if __name__ == "__main__":
    sys.exit(enter("train"))
