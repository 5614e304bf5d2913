"""Computations that several methods share.

Cosine similarities in blocks, CLIP's similarity of patches and text, and the fusing of tokens.
"""
