"""Tokens, passwords and places do not stay in what is kept or shown; everything else does."""

from __future__ import annotations

import pytest

from reports.record.plain_text import cleaned, one_line
from reports.record.private import known_secrets, without_places, without_secrets


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("401 for hf_abcdefGHIJKL0123456789: log in", "401 for hf_...: log in"),
        ("github_pat_11AAAAAAAAAAAAAA and ghp_0123456789abcdef", "github_pat_... and ghp_..."),
        ("https://me:pass%20word@host/owner/model", "https://host/owner/model"),
        ("https://secret-only@host/x?a=1&token=abc&b=2", "https://host/x?a=1&token=...&b=2"),
        ("ftp://h/x?X-Amz-Signature=0f0f0f#top", "ftp://h/x?X-Amz-Signature=...#top"),
        ("{'Authorization': 'Bearer eyJhbGciOi.x-y_z'}", "{'Authorization': 'Bearer ...'}"),
        ("authorization: Basic bWU6cGFzcw==", "authorization: Basic ..."),
        ("sent bearer abcdefghijkl", "sent bearer ..."),
        ("https://huggingface.co/owner/name@main", "https://huggingface.co/owner/name@main"),
        ("owner/name@v1.0 needs eos_token=3 and 12 tokens", "owner/name@v1.0 needs eos_token=3 and 12 tokens"),
        ("embedded/t=none,d=4bit,bf16/assisted,k=3,p=0.2", "embedded/t=none,d=4bit,bf16/assisted,k=3,p=0.2"),
        ("the bearer of news, basically", "the bearer of news, basically"),
    ],
)
def test_secrets_are_hidden_and_nothing_else(text: str, told: str) -> None:
    assert without_secrets(text, ()) == told
    assert without_secrets(told, ()) == told
    assert one_line(text) == told


def test_the_value_of_a_secret_variable_is_hidden_wherever_it_stands() -> None:
    environment = {
        "HF_TOKEN": "0123456789abcdef",
        "WANDB_API_KEY": "fedcba9876543210",
        "MY_PASSWORD": "short",
        "TOKENIZERS_PARALLELISM": "disabled-for-now",
    }
    text = "sent 0123456789abcdef/fedcba9876543210, short, disabled-for-now"
    assert without_secrets(text, known_secrets(environment)) == "sent .../..., short, disabled-for-now"


def test_the_environment_of_this_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "old-style-token-0123")
    assert one_line("denied: old-style-token-0123") == "denied: ..."
    assert cleaned({"a": ["x old-style-token-0123"]}) == {"a": ["x ..."]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot open /home/me/models/big/config.json: gone", "cannot open config.json: gone"),
        ("[Errno 28] No space left on device: '/data/my disk'", "[Errno 28] No space left on device: 'my disk'"),
        ("--model=/home/me/a,/home/me/b", "--model=a,b"),
        ("cache_dir=/srv/x/.cache", "cache_dir=.cache"),
        ("~/private/notes.txt", "notes.txt"),
        ("file:///home/me/x.txt", "file:x.txt"),
        ("(see /usr/lib/x.so)", "(see x.so)"),
        ("/tmp is full", "/tmp is full"),
        ("https://host/a/b owner/name ./here/x ../there/x 3/4 and/or p/plain,greedy", ""),
        ("embedded/t=none,bf16/plain,greedy,dynamic", ""),
    ],
)
def test_places_are_told_by_their_last_part(text: str, told: str) -> None:
    assert without_places(text) == (told or text)
