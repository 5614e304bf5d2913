"""Families whose vision tokens take another way than through the input embeddings.

One mechanism, one file; a new file here is found by the `model_types` of its class. Facts about
single families are in `backbone.family_spec`.
"""
