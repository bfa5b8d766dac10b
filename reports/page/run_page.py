"""One self-contained HTML file of one or more runs: verdict, charts, all cases, and how to measure it again.

Puts into words what other modules found and hands it to the template; holds no statistics. The file asks for nothing
over the network, and its policy forbids it to: one inline script, known by its hash, sorts, filters and copies.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reports.advice.transformers_lines import transformers_lines
from reports.numbers.answers import is_lossless, same_output
from reports.numbers.cases import pays_off_after
from reports.numbers.humaneval import points
from reports.numbers.metrics import METRICS, case_figure
from reports.numbers.pairing import meaning
from reports.page.case_table import CaseRow, case_rows, number_columns
from reports.page.charts import figures
from reports.page.charts.figure import Figure, Missing
from reports.page.charts.solved import solving
from reports.page.reproduce import run_command
from reports.record.run import CaseResult, Run, RunFileError
from reports.views.cost_table import copy_words
from reports.views.headline import (
    Headline,
    headline,
    interval_text,
    names_of,
    recommendation,
    tie_text,
)
from reports.views.tables import notes, title, workload

TEMPLATES = Path(__file__).resolve().parent / "templates"
LOUD = ("UNSTABLE", "incomplete")
"""Beginnings of the notes that a reader must not miss."""

Tone = Literal["good", "warn", "bad", "plain"]


@dataclass(frozen=True)
class Fact:
    """One figure of the verdict. tone: whether it speaks for the setting; shown by a sign as well as by colour."""

    name: str
    value: str
    detail: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Section:
    """One run as the template shows it. alone: keys of the figures of one panel that have no other one beside them."""

    anchor: str
    title: str
    file: str
    verdict: str
    call: str
    lines: str
    caveats: tuple[str, ...]
    facts: tuple[Fact, ...]
    figures: tuple[Figure, ...]
    alone: frozenset[str]
    missing: tuple[Missing, ...]
    rows: tuple[CaseRow, ...]
    deploys: bool
    legend: str
    loud: tuple[str, ...]
    notes: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    commit: str
    command: str


def write_page(runs: Sequence[Run], path: Path, price_per_hour: float | None = None) -> None:
    """Write the page of these runs, replacing what is there; raises RunFileError if the file cannot be written.

    price_per_hour: of the machine, for a column of what a million tokens cost.
    """
    text = page(runs, price_per_hour)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFileError(f"{path}: cannot be written ({error.strerror}); name a file in a folder you own") from None


def page(runs: Sequence[Run], price_per_hour: float | None = None) -> str:
    """The page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _with_code, "breakable": _breakable}
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        sections=[section(run, f"run{number}", price_per_hour) for number, run in enumerate(runs, start=1)],
        numbers=number_columns(price_per_hour),
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    )


def _with_code(text: str) -> str:
    """The text escaped, with what stands between backticks as code."""
    from markupsafe import Markup

    plain, *rest = text.split("`")
    found = Markup("") + plain
    for number, part in enumerate(rest):
        found += Markup("<code>{}</code>").format(part) if number % 2 == 0 else part
    return found


def _breakable(text: str) -> str:
    """The text escaped, with a place to break the line after every slash and comma."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("/", "/<wbr>").replace(",", ",<wbr>"))


def section(run: Run, anchor: str, price_per_hour: float | None = None) -> Section:
    """What the page says of one run."""
    found = headline(run)
    told = notes(run)
    charts = figures(run)
    drawn = tuple(chart for chart in charts if isinstance(chart, Figure))
    lines = transformers_lines(found.case, run) if found.case is not None else []
    return Section(
        anchor=anchor,
        title=title(run).rstrip("; "),
        file=run.path.name,
        verdict=verdict(found, run),
        call=_call(lines),
        lines="\n".join(lines),
        caveats=tuple(_caveats(found, run)),
        facts=tuple(_facts(found, run)),
        figures=drawn,
        alone=_alone(drawn),
        missing=tuple(chart for chart in charts if isinstance(chart, Missing)),
        rows=tuple(case_rows(run, price_per_hour)),
        deploys=found.decision == "deploy",
        legend=_legend(run),
        loud=tuple(note for note in [*told, *run.warnings] if note.startswith(LOUD) or note in run.warnings),
        notes=tuple(note for note in told if not note.startswith(LOUD) and note not in run.warnings),
        environment=tuple(_environment(run)),
        commit=str(run.header.get("environment", {}).get("git_commit") or "").partition("+")[0],
        command=run_command(run),
    )


def _call(lines: Sequence[str]) -> str:
    """Of a program the call that decodes, which holds what the setting changes; all of it where there is none."""
    starts = [place for place, line in enumerate(lines) if ".generate(" in line]
    if not starts:
        return "\n".join(lines)
    end = next((place for place in range(starts[0], len(lines)) if lines[place].startswith(")")), starts[0])
    return "\n".join(lines[starts[0] : end + 1])


def _alone(drawn: Sequence[Figure]) -> frozenset[str]:
    """Two figures of one panel share a row; one that another kind follows, or none, has the row to itself."""
    found: list[str] = []
    waiting = ""
    for figure in drawn:
        single = len(figure.panels) == 1
        if waiting and not single:
            found.append(waiting)
        waiting = figure.key if single and not waiting else ""
    return frozenset([*found, waiting] if waiting else found)


def verdict(found: Headline, run: Run) -> str:
    """The answer in one sentence."""
    if found.decision == "unmeasured" or found.case is None:
        if run.header.get("reference"):
            return f"No verdict: this run was {run.header['reference']}, without the samples that intervals need."
        if all(case.kind == "humaneval" for case in run.cases):
            return "No verdict on speed: this run measured HumanEval alone."
        return "No verdict: this run measured no plain decoding to compare its settings with."
    if found.alone:
        return "Plain decoding alone was measured: there is no other setting to choose."
    if found.speedup is None:
        return "Stay with plain decoding: no setting that keeps its model is shown to be faster."
    low, high = found.speedup.low, found.speedup.high
    return (
        f"Deploy {names_of(run)[found.case.id]}: {found.speedup.estimate:.2f} times as fast as plain decoding, "
        f"95% interval {low:.2f} to {high:.2f}."
    )


def _caveats(found: Headline, run: Run) -> Iterator[str]:
    names = names_of(run)
    tie = "" if found.found is None else tie_text(found.found, run)
    if tie and not found.alone:
        yield f"{tie[0].upper()}{tie[1:]}."
    passed, quantized, instead = found.faster_unproven, found.quantized_faster, found.lossless_instead
    if passed is not None:
        text = interval_text(passed.speedup.interval)
        yield f"{names[passed.case.id]} was measured faster, but its interval contains 1: {text}."
    if quantized is not None:
        text = interval_text(quantized.speedup.interval)
        yield f"Faster still, but quantized, which may change the answers: {names[quantized.case.id]}, {text}."
    if instead is not None:
        text = interval_text(instead.speedup.interval)
        yield f"Fastest whose output is plain decoding's on every prompt: {names[instead.case.id]}, {text}."
    if found.decision == "deploy" and found.rivals > 1:
        yield (
            f"Picked as the fastest of {found.rivals} settings that keep plain decoding's model, "
            "so its figure is a little too good."
        )
    for other in found.others:
        yield f"For {other.target}: {recommendation(other, run)}."


def _facts(found: Headline, run: Run) -> Iterator[Fact]:
    case = found.case
    if case is not None and found.tokens_per_second:
        yield Fact("Speed", f"{found.tokens_per_second:.1f} tokens/s", f"{1000 / found.tokens_per_second:.1f} ms/token")
        if found.speedup is not None:
            against = "against plain decoding, unquantized and uncompiled, on the same prompts"
            yield Fact("Speedup [95%]", interval_text(found.speedup), against, "good")
        yield _answers(found, run)
        yield from _latencies(case, run)
    if any(case.kind == "decode" for case in run.cases) and not run.header.get("reference"):
        yield _machine(found, run)
    shares = [one.solved for one in solving(run)]
    if found.solved is not None:
        solved = found.solved
        detail = f"{solved.problems} problems"
        if solved.difference is not None:
            detail += f"; {points(solved.difference)} points, {solved.statement}"
        tone: Tone = "bad" if solved.statement == "solves fewer" else "plain"
        yield Fact("HumanEval", f"{100 * solved.solved / solved.problems:.1f}% solved", detail, tone)
    elif shares:
        few = min(shares), max(shares)
        yield Fact(
            "HumanEval", f"{few[0]:.1f}% to {few[1]:.1f}% solved", f"{len(shares)} cases; the chart compares them"
        )
    else:
        yield Fact("HumanEval", "not measured", "pytest perf_tests -m humaneval")


def _answers(found: Headline, run: Run) -> Fact:
    """Model, tokens and rounding, kept apart."""
    assert found.case is not None
    if found.speedup is None:
        return Fact("Answers", "the reference", found.answers)
    reason = str(dict(found.case.facts.get("losslessness") or {}).get("reason", ""))
    detail = ": ".join(filter(None, (found.answers, reason)))
    if is_lossless(found.case, run):
        return Fact("Answers", "lossless", detail or "same distribution", "good")
    same = same_output(found.case, run)
    return Fact("Answers", "same model" + (f", same output {same.text}" if same else ""), detail, "warn")


def _latencies(case: CaseResult, run: Run) -> Iterator[Fact]:
    first, later = case_figure(METRICS["ttft_seconds"], case), case_figure(METRICS["decode_latency_tok"], case)
    if first is not None:
        between = "" if later is None else f"then {1000 * later:.1f} ms between tokens"
        yield Fact("Time to first token", f"{1000 * first:.0f} ms", between)
    earned = pays_off_after(case, run)
    if earned is not None:
        yield Fact("Pays off after", f"{earned:,} tokens", "what compiling and warming up cost once")


def _machine(found: Headline, run: Run) -> Fact:
    if run.order == "rounds" and run.rounds:
        last = {(done.session, done.block, done.round): done.disturbed for done in run.rounds}
        disturbed = sum(map(bool, last.values()))
        if disturbed:
            return Fact(
                "Machine", "disturbed", f"in {disturbed} of {len(last)} rounds, all cases of them alike", "warn"
            )
        return Fact(
            "Machine", "undisturbed", f"in all {len(last)} rounds; drift hits the cases of a round alike", "good"
        )
    if found.stable is None:
        return Fact("Machine", "not checked", "no baseline was measured twice", "warn")
    most = max(found.drifts, key=lambda drift: abs(drift.ratio - 1))
    detail = f"baselines changed by up to {100 * (most.ratio - 1):+.1f}% (limit {100 * most.limit:g}%)"
    return Fact("Machine", "steady", detail, "good") if found.stable else Fact("Machine", "not steady", detail, "bad")


def _legend(run: Run) -> str:
    return (
        f"{workload(run)}, unless the case says otherwise. Speedup: against plain decoding with a dynamic cache, "
        f"unquantized and uncompiled, on the same prompts. {meaning(run)}. Same output: prompts whose greedy output is "
        "plain decoding's, token by token. Memory: the peak allocated on the GPU, or else weights, and cache where "
        "known. An id reads `pair/engine/point`: quantization of target (`t=`) and draft (`d=`), dtype; then strategy, "
        "tokens drafted (`k=`), confidence threshold (`p=`), greedy or sampled, cache."
    )


def _environment(run: Run) -> Iterator[tuple[str, str]]:
    header = run.header
    environment, study = header.get("environment", {}), header.get("study", {})
    for name, value in environment.get("hardware", {}).items():
        yield name.replace("_gib", " (GiB)").replace("_", " "), str(value)
    for dtype, limit in header.get("limit", {}).items():
        rate = limit.get("copy_bytes_per_second")
        if rate:
            yield f"copy bandwidth, {dtype}", f"{rate / 1e9:.1f} GB/s ({limit.get('how', 'measured')})"
    if copies := copy_words(run.cases):
        yield "copy bandwidth that counts", copies
    for pair in study.get("pairs", ()):
        draft = f", draft {pair['draft']}" if pair.get("draft") else ""
        yield f"pair {pair.get('name', '')}".strip(), f"{pair.get('target', '?')}{draft}"
    for name, revision in _revisions(run).items():
        yield f"{name} revision", revision
    workload = study.get("workload", {})
    if workload:
        yield "workload", ", ".join(f"{key} {value}" for key, value in workload.items())
    hashes = dict.fromkeys(case.workload.prompts_sha256 for case in run.cases if case.workload.prompts_sha256)
    if hashes:
        yield "prompts, SHA-256", ", ".join(hashes)
    versions = environment.get("versions", {})
    if versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    for name in ("python", "system", "git_commit"):
        if environment.get(name):
            yield name.replace("_", " "), str(environment[name])
    for name, where in (("started at", header), ("ended at", run.end)):
        if where.get(name.replace(" ", "_")):
            yield name, str(where[name.replace(" ", "_")])
    seconds = run.end.get("seconds", {})
    if seconds:
        yield "took", ", ".join(f"{name.replace('_', ' ')} {value:.0f} s" for name, value in seconds.items())


def _revisions(run: Run) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for case in run.cases:
        for name, revision in dict(case.facts.get("revisions") or {}).items():
            found.setdefault(str(name), {})[str(revision)] = None
    return {name: ", ".join(revisions) for name, revisions in found.items()}
