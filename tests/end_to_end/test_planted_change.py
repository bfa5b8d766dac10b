"""One decision of one prompt changed in a real run: caught by the exact metrics, on a baseline of another machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

HERE = Path(__file__).resolve().parent
Bench = Callable[..., "subprocess.CompletedProcess[str]"]
SETTINGS = ("--pair", "synthetic-tiny-same", "--assist-toks", "3", "--num-samples", "3", "--gen-toks", "15")
Judge = Callable[[str, str], tuple[int, dict[tuple[str, str], str]]]


@pytest.fixture(scope="module")
def judge(run_bench: Bench, run_reports: Bench, tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """`judge(plant, at)`: the gate's exit code on a run in which that is planted, against one of another machine in
    which nothing is, and what it says of each (strategy, metric) that failed."""
    folder = tmp_path_factory.mktemp("planted")
    base, head, junit = (folder / name for name in ("base.jsonl", "head.jsonl", "gate.xml"))

    def measure(path: Path, *plugin: str, **environment: str) -> None:
        done = run_bench(*plugin, "--study", tiny_study, *SETTINGS, "--results", path, **environment)
        assert done.returncode == 0, done.stdout + done.stderr

    measure(base)
    header, *cases = base.read_text(encoding="utf-8").splitlines()
    run = json.loads(header)
    run["environment"]["hardware"] |= {"cpu": "Another processor", "cpu_cores": 64, "cpu_capability": "DEFAULT"}
    run["environment"]["versions"]["torch"] = "2.11.0"
    base.write_text("\n".join([json.dumps(run), *cases]) + "\n", encoding="utf-8")

    def judged(plant: str, at: str) -> tuple[int, dict[tuple[str, str], str]]:
        head.unlink(missing_ok=True)
        measure(head, "-p", "planted", PYTHONPATH=str(HERE), PLANT=plant, PLANT_AT=at)
        done = run_reports("gate", base, head, "--format", "junit", "-o", junit)
        failed = {}
        for case in ElementTree.parse(junit).iter("testcase"):
            strategy = case.attrib["classname"].split("/")[-1].split(",")[0]
            for failure in case.iter("failure"):
                failed[strategy, case.attrib["name"]] = failure.attrib["message"]
        return done.returncode, failed

    return judged


def test_one_assist_token_fewer_in_one_round_is_named(judge: Judge) -> None:
    """A later round makes up for it, so that every sum stays what it was; all else passes."""
    code, failed = judge("fewer", "1,2")
    assert code == 1
    assert list(failed) == [("assisted", "drafted"), ("assisted", "accepted")]
    for told in failed.values():
        assert "33 -> 33 (prompt 1, step 2: accepted 3 of 3 -> accepted 2 of 2)" in told


def test_one_token_of_the_output_is_named(judge: Judge) -> None:
    """Forward 3 (from 0) decides on token 3 in plain decoding, on token 12 where each adds four."""
    code, failed = judge("token", "2,3")
    assert code == 1
    assert "3 outputs -> 1 differ (prompt 2, token 3: " in failed["plain", "output_sha256"]
    assert "3 outputs -> 1 differ (prompt 2, token 12: " in failed["assisted", "output_sha256"]
