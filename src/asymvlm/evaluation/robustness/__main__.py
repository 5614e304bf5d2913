"""`python -m asymvlm.evaluation.robustness`."""

from .robustness import main

if __name__ == "__main__":
    main()
