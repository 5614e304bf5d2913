"""`python -m asymvlm.evaluation.robustness`."""

import sys

from ...cli.door import enter

if __name__ == "__main__":
    sys.exit(enter("robustness"))
