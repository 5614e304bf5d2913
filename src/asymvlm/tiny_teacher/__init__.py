"""The tiny teacher: a LLaVA that reads generated pages, trained from scratch.

The recipe behind `python train.py --config configs/teacher/tiny.yaml`. Imports cli, distillation,
documents, evaluation, limits, methods, storage and training.
"""
