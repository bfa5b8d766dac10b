"""Starts measurements elsewhere: code states, environments, blocks, turns. The one room that starts processes."""
