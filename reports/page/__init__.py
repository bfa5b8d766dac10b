"""The pages of a run and of many runs, with their charts. Computes nothing of its own."""
