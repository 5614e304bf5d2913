"""Training the importance scorer, on Lightning.

Modules, data modules and callbacks behind `python train.py`. Only the command line imports it; it
may import everything but the tiny teacher.
"""
