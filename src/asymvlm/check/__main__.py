"""Verify a scorer directory: `python -m asymvlm.check DIRECTORY`."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
