"""What every command shares.

Parsing and exit codes, signals, and progress with an ETA. Any module may import it; it imports the
errors alone. The commands themselves live where their work is done: `training.main`,
`evaluation.main`, `export`, `check`, and `__main__` in front of them.
"""
