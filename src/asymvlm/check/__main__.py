"""Verify a scorer directory: `python -m asymvlm.check DIRECTORY`."""

import sys

from ..cli.door import enter

if __name__ == "__main__":
    sys.exit(enter("check"))
