"""Answers as text: tables for terminal and Markdown, formats of other tools. Computes nothing of its own."""
