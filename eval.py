"""Evaluate pruning methods.

`python eval.py [--config configs/eval/X.yaml] [--dotted.flag value]`.
"""

import sys

from asymvlm.cli.door import enter

if __name__ == "__main__":
    sys.exit(enter("eval"))
