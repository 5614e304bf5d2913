"""A small world of generated pages.

Forms, receipts, tables and charts with questions, dialogues and evidence boxes, drawn from a seed.
"""
