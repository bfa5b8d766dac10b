"""Whether a run got worse than its base: exact counts, timings, faults, noise. Renders nothing."""
