"""From samples to figures: metrics, speedups, statistics, the cost model. Renders nothing, reads no files."""
