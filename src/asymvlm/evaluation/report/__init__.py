"""Results as rows, tables and pictures.

Measurements in the forms that people read: Markdown, LaTeX, CSV and pictures.
"""
