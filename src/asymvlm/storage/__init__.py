"""Files that are whole or not there, and keys by content.

Atomic writes, data sets that are built once, and fingerprints of anything a result depends on.
Imports errors.
"""
