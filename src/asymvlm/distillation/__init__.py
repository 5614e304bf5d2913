"""The teacher: a frozen VLM that is asked questions and tells what it looked at.

Runs the VLM over pages with questions and answers, and reads targets and answer logits. Imports
backbone, documents and targets; evaluation and training may import it.
"""
