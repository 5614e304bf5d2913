"""Parts that every command shares.

The door in front of all commands, parsing and exit codes, signals, and progress with an ETA. The
commands themselves live where their work is done (`training.main`, `evaluation.main`, ...):
`commands` names their modules as text, and `door` imports the one that is asked for. Imports
errors.
"""
