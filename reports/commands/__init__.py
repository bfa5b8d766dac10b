"""One module for each command of `python -m reports`: its options (`register`) and what it prints and returns.

A command module parses, calls the pure modules beside this package and prints; it holds no figures of its own. What
takes long to import is imported when the command runs, so that `--help` stays quick.
"""
