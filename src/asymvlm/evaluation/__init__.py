"""Methods side by side: answers, metrics, costs, latency, report.

Everything behind `python eval.py`. Imports checkpoint, cli, distillation, documents, engine,
errors, eviction, limits, methods, pruning, registry, selectors, storage and typing.
"""
