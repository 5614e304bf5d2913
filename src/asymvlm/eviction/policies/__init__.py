"""Eviction policies. One policy, one file, one class.

Each is an `Evictor` that ranks the entries of a layer; a new file here is found by its name.
"""
