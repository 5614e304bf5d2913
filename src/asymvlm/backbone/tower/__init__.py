"""The vision tower's attention, keys and states per vision token.

Attention, features and keys of the tower, brought to one value per vision token of the LLM, and the
contrast of the pixels behind each token.
"""
