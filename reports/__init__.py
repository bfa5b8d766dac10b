"""From a run file to an answer: reading, metrics, statistics, verdicts, rendering. Never imports torch or fixtures."""
