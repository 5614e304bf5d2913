"""Families whose vision tokens take another way than through the input embeddings.

`spec` holds the facts of each family; the other modules are families whose vision tokens take
another way than through the input embeddings. Only `backbone` imports from here, and whoever must
tell cross-attention families apart.
"""
