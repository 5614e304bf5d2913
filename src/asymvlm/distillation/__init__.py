"""The teacher: a frozen VLM that answers questions and gives targets.

Runs the VLM over pages with questions and answers, and reads targets and answer logits. Imports
backbone, cli, documents, engine, errors, scorers, storage, targets and typing.
"""
