"""What a run needs is asked for before a model loads: models' small files, tokenizers, prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.engines.transformers.models import resident, synthetic
from fixtures.engines.transformers.models.shapes import SHAPES
from fixtures.measuring.examination import Examiner
from fixtures.study import workload
from fixtures.study.pairs import Pair, find_pair
from fixtures.study.study import Study, StudyError, Sweep, Workload
from fixtures.suite.access import ask
from fixtures.suite.session import BenchSession
from tests.unit.synthetic_pairs import save

WORDS = " ".join(f"word{number}" for number in range(40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint of the tiny shape with a tokenizer that knows a few words."""
    path = tmp_path_factory.mktemp("model")
    shape = SHAPES["tiny-draft"]
    save(synthetic.build(shape, synthetic.cycle(shape.vocab, 0)), path)
    return path


def study(pairs: tuple[Pair, ...], prompts: str, count: int = 2) -> Study:
    sweep = Sweep("speculative_decoding", {"dtype": ("fp32",), "strategy": ("assisted",), "assist_toks": (2,)})
    return Study("unit", "", pairs, (sweep,), Workload(prompts, num_samples=count, max_prompt=4, gen_toks=4))


def hub_pair(target: Path, draft: Path) -> Pair:
    return Pair.from_hub(str(target), str(draft))


@pytest.fixture
def prompts_file(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text(f"{WORDS}\n\n{WORDS}\n")
    return str(path)


def test_what_can_be_had_is_had_and_prompts_are_tokenized_once(folder: Path, prompts_file: str) -> None:
    wanted = study((hub_pair(folder, folder),), prompts_file)
    access = ask(wanted, wanted.cases())
    assert access.reasons == {}
    (prompts,) = access.prompts.values()
    assert len(prompts.ids) == 2


def test_a_draft_that_is_missing_is_known_before_the_target_loads(
    folder: Path, tmp_path: Path, prompts_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    wanted = study((hub_pair(folder, tmp_path / "empty"),), prompts_file)
    monkeypatch.setattr(resident, "load_target", lambda *_, **__: pytest.fail("a model was loaded"))
    bench = BenchSession(wanted, tmp_path / "run.jsonl", resume=False, argv=[])
    with pytest.raises(StudyError, match="empty cannot be loaded") as refusal:
        bench.begin(bench.cases)
    assert "\n" not in str(refusal.value)
    assert not bench.path.exists()


def test_one_pair_that_cannot_be_had_is_told_and_the_others_are_measured(
    folder: Path, tmp_path: Path, prompts_file: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(Examiner, "measure_limits", lambda self, dtypes: {})
    missing = hub_pair(folder, tmp_path / "empty")
    wanted = study((hub_pair(folder, folder), missing), prompts_file)
    bench = BenchSession(wanted, tmp_path / "run.jsonl", resume=False, argv=[])
    bench.begin(bench.cases)
    assert f"WARNING: pair {missing.name} cannot be measured: " in capfd.readouterr().out
    bench.abandon()


def test_prompts_that_cannot_be_had_are_known_before_a_model_loads(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline() -> list[str]:
        raise workload.PromptsUnavailable("--prompts wikitext: cannot be downloaded; use --prompts embedded")

    monkeypatch.setitem(workload._BUILT_IN_TEXTS, "wikitext", offline)
    wanted = study((hub_pair(folder, folder),), "wikitext")
    (reason,) = ask(wanted, wanted.cases()).reasons.values()
    assert reason.startswith("--prompts wikitext: cannot be downloaded")


def test_too_few_prompts_are_known_before_a_model_loads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workload._BUILT_IN_TEXTS, "embedded", lambda: [WORDS] * 3)
    wanted = study((hub_pair(folder, folder),), "embedded", count=5)
    (reason,) = ask(wanted, wanted.cases()).reasons.values()
    assert "--num-samples 5: prompts 'embedded' give only 3" in reason


def test_a_synthetic_pair_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = study((find_pair("synthetic-tiny"),), "synthetic")
    access = ask(wanted, wanted.cases())
    assert (access.reasons, access.prompts) == ({}, {})
