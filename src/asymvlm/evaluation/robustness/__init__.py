"""Accuracy on worse pictures and reworded questions.

Corruptions, rewordings and the sweep over their severities; `python -m
asymvlm.evaluation.robustness` runs it.
"""
