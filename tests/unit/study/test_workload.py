"""Prompts: what is dropped, folded, cut and hashed, from every source, without a network."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.study import workload
from fixtures.study.study import Workload
from fixtures.study.workload import Prompts, PromptsUnavailable, load_prompts, prose, read_file

LINES = ["", " = Heading = ", "one two three\nfour five six", "one two", "a b c d e f g"]


def words(text: str) -> list[int]:
    """A tokenizer: one token a word, its length, and 99 for a newline."""
    return [99 if word == "\n" else len(word) for word in text.replace("\n", " \n ").split(" ") if word]


@pytest.fixture
def cached_wikitext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder with a saved copy of wikitext, and no way to download another."""
    (tmp_path / "wikitext-2-raw-v1-test.json").write_text(json.dumps(LINES))
    monkeypatch.setenv("DECODEBENCH_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)


@pytest.mark.usefixtures("cached_wikitext")
def test_wikitext_drops_short_samples_folds_newlines_and_cuts() -> None:
    prompts = load_prompts(Workload("wikitext", num_samples=2, max_prompt=5), words)
    assert prompts.ids == ((3, 3, 5, 4, 4), (1, 1, 1, 1, 1))
    assert prompts.source == "wikitext"


@pytest.mark.usefixtures("cached_wikitext")
def test_too_few_samples_are_said_with_their_number() -> None:
    with pytest.raises(PromptsUnavailable, match="--num-samples 3: prompts 'wikitext' give only 2 of 5 tokens; lower"):
        load_prompts(Workload("wikitext", num_samples=3, max_prompt=5), words)


def test_wikitext_without_copy_or_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODEBENCH_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PromptsUnavailable, match="connect once, or use --prompts embedded"):
        load_prompts(Workload("wikitext", num_samples=1), words)


def test_a_downloaded_wikitext_is_saved_for_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*name: str, split: str) -> dict[str, list[str]]:
        asked.append((*name, split))
        return {"text": LINES}

    monkeypatch.setenv("DECODEBENCH_CACHE", str(tmp_path / "new"))
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    wanted = Workload("wikitext", num_samples=2, max_prompt=5)
    first, second = load_prompts(wanted, words), load_prompts(wanted, words)
    assert first == second
    assert asked == [("Salesforce/wikitext", "wikitext-2-raw-v1", "test")]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["wikitext-2-raw-v1-test.json"]


def test_the_hash_is_of_the_tokens_alone_and_tells_prompts_apart() -> None:
    prompts = Prompts("a", ((1, 2), (3,)))
    assert prompts.sha256 == hashlib.sha256(b"[[1,2],[3]]").hexdigest()
    assert prompts.sha256 == Prompts("b", ((1, 2), (3,))).sha256
    assert prompts.sha256 != Prompts("a", ((1,), (2, 3))).sha256
    assert prompts.describe() == {"source": "a", "count": 2, "sha256": prompts.sha256}


def test_a_text_file_holds_a_prompt_a_paragraph_short_ones_included(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("one\ntwo\n\n  \nthree four five\n", encoding="utf-8")
    assert read_file(path) == ["one\ntwo", "three four five"]
    assert load_prompts(Workload(str(path), num_samples=2, max_prompt=2), words).ids == ((3, 99), (5, 4))


def test_a_jsonl_file_holds_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "a", "text": "b"}\n\n{"text": "caf\u00e9"}\n"plain"\n', encoding="utf-8")
    assert read_file(path) == ["a", "caf\u00e9", "plain"]


def test_a_byte_order_mark_is_no_part_of_the_first_prompt(tmp_path: Path) -> None:
    for name, content in (("mine.txt", "one"), ("mine.jsonl", '{"text": "one"}')):
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
        assert read_file(tmp_path / name) == ["one"]


def test_embedded_prose_is_english_unique_and_in_a_fixed_order() -> None:
    texts = prose()
    assert texts == prose()
    assert len(texts) == len(set(texts)) > 100
    assert all(len(text) >= 900 and "\n" not in text for text in texts)


def test_humaneval_gives_its_164_problems_as_they_are() -> None:
    prompts = load_prompts(Workload("humaneval", num_samples=164, max_prompt=10**6), lambda text: list(text.encode()))
    assert len(prompts.ids) == 164
    assert "def has_close_elements" in bytes(prompts.ids[0]).decode()
    assert 10 in prompts.ids[0], "its newlines are code, not to be folded"


def test_synthetic_prompts_hold_no_end_token_and_more_extend_the_same() -> None:
    few = load_prompts(Workload("synthetic", num_samples=3, max_prompt=5), words, vocab_size=8)
    more = load_prompts(Workload("synthetic", num_samples=50, max_prompt=5), words, vocab_size=8)
    assert more.ids[:3] == few.ids
    assert {token for ids in more.ids for token in ids} == set(range(7))


def test_every_built_in_source_is_known() -> None:
    assert set(workload.BUILT_IN) == {"embedded", "wikitext", "humaneval", "synthetic"}
