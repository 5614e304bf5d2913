"""Files that are whole or not there, and keys by content.

Atomic writes, data sets that are built once, and fingerprints of anything a result depends on. Any
module that writes or caches may import it; it imports the errors alone.
"""
