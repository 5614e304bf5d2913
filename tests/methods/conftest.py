"""Fixtures of this folder."""

from support.tower_tokens import similarity

__all__ = ["similarity"]
