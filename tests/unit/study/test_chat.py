"""Prompts as chats, conversations of a file, and prompts of mixed lengths, with a real tokenizer and its template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.engines.transformers.models.synthetic import tokenizer as word_tokenizer
from fixtures.study.prompt_file import Conversation
from fixtures.study.study import StudyError, Workload
from fixtures.study.study_file import load_study
from fixtures.study.workload import PromptsUnavailable, check_prompts, load_prompts, read_file

TEMPLATE = (
    "{% for m in messages %}t1 {% if m.role == 'user' %}t2{% else %}t3{% endif %} {{ m.content }} t4 {% endfor %}t5"
)


@pytest.fixture
def chatting() -> Any:
    """A tokenizer of the words t0, t1, ... with a template: a turn is t1 ROLE text t4, the answer's opening t5."""
    words = word_tokenizer(64)
    words.chat_template = TEMPLATE
    return words


def ids_of(path: Path, tokenizer: Any, **asked: Any) -> list[list[int]]:
    workload = Workload(str(path), **{"num_samples": 1, "max_prompt": 0, **asked})
    tokenize = lambda text: list(tokenizer(text).input_ids)  # noqa: E731
    return [list(ids) for ids in load_prompts(workload, tokenize, tokenizer=tokenizer).ids]


def written(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def test_a_prompt_goes_through_the_template_and_is_cut_within_it(tmp_path: Path, chatting: Any) -> None:
    path = written(tmp_path / "a.jsonl", {"prompt": "t10 t11 t12 t13"})
    assert ids_of(path, chatting) == [[10, 11, 12, 13]]
    assert ids_of(path, chatting, chat=True) == [[1, 2, 10, 11, 12, 13, 4, 5]]
    assert ids_of(path, chatting, chat=True, max_prompt=8) == [[1, 2, 10, 11, 12, 13, 4, 5]]
    assert ids_of(path, chatting, chat=True, max_prompt=6) == [[1, 2, 10, 11, 4, 5]]
    with pytest.raises(PromptsUnavailable, match="--max-prompt 4: the chat template alone takes 4 tokens; raise it"):
        ids_of(path, chatting, chat=True, max_prompt=4)


def test_a_conversation_is_asked_up_to_the_users_last_turn_and_never_cut(tmp_path: Path, chatting: Any) -> None:
    turns = [("user", "t20"), ("assistant", "t21"), ("user", "t22"), ("assistant", "t23")]
    messages = [{"role": role, "content": content} for role, content in turns]
    path = written(tmp_path / "a.jsonl", {"messages": messages})
    assert read_file(path) == [Conversation(tuple(turns[:3]))]
    assert ids_of(path, chatting) == [[1, 2, 20, 4, 1, 3, 21, 4, 1, 2, 22, 4, 5]]
    with pytest.raises(PromptsUnavailable, match=r"give only 0 .*fit into 12 of them"):
        ids_of(path, chatting, max_prompt=12)


def test_a_template_that_is_missing_or_breaks_is_told_in_one_line(tmp_path: Path, chatting: Any) -> None:
    path = written(tmp_path / "a.jsonl", {"prompt": "t10"})
    for template, told in (
        (None, "no chat template"),
        ("{{ raise_exception('no\nuser') }}", "no user"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
    ):
        chatting.chat_template = template
        with pytest.raises(PromptsUnavailable, match=told) as refusal:
            ids_of(path, chatting, chat=True)
        assert str(refusal.value).startswith("--chat: ") and "\n" not in str(refusal.value)


def test_the_key_of_a_prompt_can_be_named(tmp_path: Path, chatting: Any) -> None:
    path = written(tmp_path / "a.jsonl", {"question": "t10", "prompt": "t11"})
    assert ids_of(path, chatting) == [[11]] and ids_of(path, chatting, prompt_key="question") == [[10]]
    talk = written(tmp_path / "b.jsonl", {"talk": [{"role": "user", "content": "t12"}]})
    assert ids_of(talk, chatting, prompt_key="talk") == [[1, 2, 12, 4, 5]]
    with pytest.raises(StudyError, match=r"line 1 has no text under 'answer' \(its keys: 'question', 'prompt'\)"):
        read_file(path, key="answer")
    text = tmp_path / "a.txt"
    text.write_text("one")
    for workload, told in (
        (Workload(str(text), 1, prompt_key="x"), "is for .jsonl and .ndjson files, not for a.txt"),
        (Workload("embedded", 1, prompt_key="x"), "is for a file of prompts, not for embedded"),
    ):
        with pytest.raises(StudyError, match=f"--prompt-key 'x': {told}"):
            check_prompts(workload, synthetic=False)


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], "has no text under 'prompt' or 'text'"),
        ([{"role": "system", "content": "x"}], "has no turn of the user"),
        ([{"role": "user", "content": " "}], "has no turn of the user"),
        (["hello"], "has a turn under 'messages' without role and content as texts"),
        ([{"role": "user", "content": [{"type": "text"}]}], "without role and content as texts"),
        ([{"role": "user", "content": "\ud83d"}], "has half of a surrogate pair"),
        ("hello", r"has no text under 'prompt' or 'text'"),
    ],
)
def test_a_faulty_conversation_is_refused_with_its_line(tmp_path: Path, messages: Any, told: str) -> None:
    with pytest.raises(StudyError, match=f"line 1 .*{told}"):
        read_file(written(tmp_path / "a.jsonl", {"messages": messages}))


def test_prompts_of_mixed_lengths_stay_as_they_are(tmp_path: Path, chatting: Any) -> None:
    path = written(tmp_path / "a.jsonl", {"text": "t10"}, {"text": "t11 t12 t13"})
    assert ids_of(path, chatting, num_samples=2) == [[10], [11, 12, 13]]
    study = load_study("smoke", {"pair": "embedded", "prompts": "embedded", "max_prompt": "0"})
    assert study.workload.max_prompt == 0 and study.workload.expected_prompt == 128
    with pytest.raises(StudyError, match="--max-prompt -1: must be at least 1, or 0 for prompts as long as they are"):
        load_study("smoke", {"max_prompt": "-1"})
    for workload in (Workload("synthetic", 1, max_prompt=0), Workload("synthetic", 1, chat=True)):
        with pytest.raises(StudyError, match="synthetic prompts have no text and no length of their own"):
            check_prompts(workload, synthetic=True)


def test_a_workload_that_asks_for_neither_is_told_as_before() -> None:
    assert not {"chat", "prompt_key"} & Workload().describe().keys()
    assert Workload(chat=True, prompt_key="q").describe() | {"chat": True, "prompt_key": "q"} == vars(
        Workload(chat=True, prompt_key="q")
    )
