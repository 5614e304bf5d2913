"""Evaluate pruning methods.

`python eval.py [--config configs/eval/X.yaml] [--dotted.flag value]`.
"""

import sys

from asymvlm.evaluation.main import main

if __name__ == "__main__":
    sys.exit(main())
