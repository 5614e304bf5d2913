"""Results as rows, tables and pictures.

What the evaluations measured, in the forms that people read. Imported by the evaluations and, for
its pictures, by training's callbacks.
"""
