"""Readers against damaged and hostile files: what is mutated, who reads it, and which errors they are to answer with.

Starts no process and loads no model.
"""
