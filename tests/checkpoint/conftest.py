"""Fixtures of this folder."""

from support.lora_runs import first, frozen, train

__all__ = ["first", "frozen", "train"]
