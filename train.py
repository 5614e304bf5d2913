"""Train an importance scorer: `python train.py [--config configs/X.yaml] [--dotted.flag value]`."""

import sys

from asymvlm.training.main import main

if __name__ == "__main__":
    sys.exit(main())
