"""Data sets from outside, and the one description of a data source.

Folders of JSONL, LLaVA's conversations, `datasets` from disk or the Hub: each module turns one form
into rows of `documents.sample`; without a path, pages are those of `documents.world`.
"""
