"""Training of the importance scorer, on Lightning.

Modules, data modules and callbacks behind `python train.py`. Imports backbone, checkpoint, cli,
distillation, documents, engine, errors, evaluation, eviction, export, gates, limits, methods,
objectives, registry, scorers, selectors, storage, targets and typing.
"""
