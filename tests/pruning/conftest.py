"""Fixtures of this folder."""

from support.inside_llm import case

__all__ = ["case"]
