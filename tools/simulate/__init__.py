"""Simulations behind docs/statistics.md: whether intervals, races and the gate are wrong as often as they say.

Maintainers run them; they measure nothing and know the run file and reports/numbers, nothing of torch or models.
"""
