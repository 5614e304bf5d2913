"""Fixtures of this folder."""

from support.fingerprints import copied, folder

__all__ = ["copied", "folder"]
