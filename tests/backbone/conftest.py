"""Fixtures of this folder."""

from support.family_cases import case

__all__ = ["case"]
