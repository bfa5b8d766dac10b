"""The words that everything else is said in: settings, cases, samples, run files.

Imports nothing of the other rooms, nothing that measures and nothing that renders.
"""
