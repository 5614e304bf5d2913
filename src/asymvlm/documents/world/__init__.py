"""A small world of generated pages.

Forms, receipts, tables and charts with questions, dialogues and evidence boxes, drawn from a seed.
Imported by `documents.sources` and by the tiny teacher's recipe; imports nothing but
`documents.sample` and storage.
"""
