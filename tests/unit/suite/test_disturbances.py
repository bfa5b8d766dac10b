"""What would spoil the clock is refused in one line; what leaves it alone is let be."""

from __future__ import annotations

import cProfile
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.study.pairs import Pair, find_pair
from fixtures.study.study import Case, Study, StudyError, Sweep, Workload
from fixtures.suite.disturbances import refuse_what_spoils_timing, tracer, why_profiled
from fixtures.suite.items import Planned, case_of, collect
from fixtures.suite.session import BenchSession

ROOT = Path(__file__).resolve().parents[3]


class Config:
    """The options of pytest that matter here."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def getoption(self, name: str, default: Any = None) -> Any:
        return self.options.get(name, default)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"benchmark_disable": True}, "--benchmark-disable: leaves nothing measured"),
        ({"benchmark_cprofile": "tottime"}, "--benchmark-cprofile: a profiler would be timed"),
        ({"numprocesses": 2}, "-n (pytest-xdist): tests side by side"),
        ({"tx": ["2*popen"], "dist": "load"}, "--tx (pytest-xdist): tests side by side"),
        ({"dist": "each"}, "--dist (pytest-xdist): tests side by side"),
        ({"workers": "auto"}, "--workers (pytest-parallel): tests side by side"),
        ({"count": 2}, "--count (pytest-repeat): every test would be measured several times"),
        ({"flake_finder_enable": True}, "--flake-finder (pytest-flakefinder): every test would be measured several"),
        ({"profile": True}, "--profile (pytest-profiling): a profiler would be timed"),
    ],
)
def test_options_of_plugins_that_spoil_timing_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError) as refusal:
        refuse_what_spoils_timing(Config(**options))
    assert str(refusal.value).startswith(told)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 200


def test_the_defaults_of_plugins_are_harmless() -> None:
    defaults = {"numprocesses": None, "tx": [], "dist": "no", "count": 1, "workers": 1, "benchmark_cprofile": None}
    refuse_what_spoils_timing(Config(**defaults))
    refuse_what_spoils_timing(Config(numprocesses=0))


def test_a_profiler_is_refused() -> None:
    profiler = cProfile.Profile()
    with profiler, pytest.raises(StudyError, match=r"a profiler is on \(cProfile\)"):
        refuse_what_spoils_timing(Config())
    assert why_profiled() == ""


class Coverage:
    """What coverage tells of itself while it runs."""

    sources: tuple[str, ...] = ()

    @classmethod
    def current(cls) -> Any:
        return SimpleNamespace(config=SimpleNamespace(source=list(cls.sources), source_pkgs=[]))


@pytest.mark.parametrize(
    ("sources", "refused"),
    [
        ((), ""),
        (("fixtures", "reports"), ""),
        ((str(ROOT / "fixtures"), "conftest"), ""),
        (("fixtures", "transformers"), "coverage of transformers: "),
        (("torch.nn", str(Path(sys.prefix))), f"coverage of torch.nn, {sys.prefix}: "),
    ],
)
def test_coverage_may_see_the_suite_and_not_what_is_timed(
    monkeypatch: pytest.MonkeyPatch, sources: tuple[str, ...], refused: str
) -> None:
    monkeypatch.setattr(Coverage, "sources", sources)
    monkeypatch.setitem(sys.modules, "coverage", SimpleNamespace(Coverage=Coverage))
    if not refused:
        refuse_what_spoils_timing(Config())
        return
    with pytest.raises(StudyError) as refusal:
        refuse_what_spoils_timing(Config())
    assert str(refusal.value).startswith(refused)


def test_a_debugger_is_told_by_its_name() -> None:
    asked = "import sys; sys.settrace(lambda *_: None); from fixtures.suite.disturbances import tracer; print(tracer())"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "function\n"
    if sys.gettrace() is None:
        assert tracer() == ""


def _items(cases: list[Case]) -> list[Any]:
    """Items whose ids tell nothing, as plugins and other scripts make them."""
    return [
        SimpleNamespace(callspec=SimpleNamespace(id="?", params={"engine": None, "point": Planned(case)}))
        for case in cases
    ]


def test_items_are_known_by_what_they_measure_whatever_their_id(tmp_path: Path) -> None:
    sweep = Sweep("speculative_decoding", {"strategy": ("prompt_lookup",), "assist_toks": (3, 4)})
    workload = Workload("synthetic", num_samples=2, max_prompt=8, gen_toks=8)
    study = Study("unit", "", (find_pair("synthetic-tiny"),), (sweep,), workload)
    session = BenchSession(study, tmp_path / "run.jsonl", resume=False, argv=[])
    collected = _items(session.cases[::-1])
    assert collect(session, collected) == []
    assert [case_of(item) for item in collected] == session.cases
    with pytest.raises(StudyError, match=r"^2 tests measure .* a plugin or option repeats the tests; drop it"):
        collect(session, _items([session.cases[0], *session.cases]))


def test_a_name_that_the_locale_cannot_spell_is_refused_before_loading() -> None:
    from fixtures.study.options import build_study

    with pytest.raises(StudyError, match=r"^--model '/models/kaputt-ü': this locale has ASCII letters only.*LC_ALL"):
        build_study({"model": "/models/kaputt-\udcc3\udcbc"})
    assert Pair.from_hub("/models/kaputt-ü").name == "kaputt-ü"
