"""Computations that several methods share.

Cosine similarities in blocks, and CLIP's similarity of patches and text. Imported by methods and by
the measurement of CLIP's sign.
"""
