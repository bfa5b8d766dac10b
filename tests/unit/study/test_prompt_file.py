"""The user's own prompts: what a file holds is what is read, and what cannot be read is told in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fixtures.study.study import StudyError, Workload
from fixtures.study.workload import PromptsUnavailable, check_prompts, load_prompts, read_file

ROWS = '{"prompt": "one"}\n{"prompt": "two"}\n'


def _id(value: object) -> str:
    return repr(value)[:24]


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(StudyError) as refusal:
        read_file(path)
    message = str(refusal.value)
    assert message.startswith(f"--prompts {str(path)!r}: ")
    assert "\n" not in message and message.isprintable()
    assert len(message) < len(str(path)) + 400
    return message.removeprefix(f"--prompts {str(path)!r}: ")


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("a.JSONL", ROWS, ["one", "two"]),
        ("a.ndjson", ROWS, ["one", "two"]),
        ("a.NdJson.GZ", gzip.compress(ROWS.encode(), mtime=0), ["one", "two"]),
        ("a.jsonl", ROWS.replace("\n", "\r\n\r\n"), ["one", "two"]),
        ("a.jsonl", ROWS.replace("\n", "\r"), ["one", "two"]),
        ("a.jsonl", "\ufeff\r\n" + ROWS + "\ufeff" + ROWS, ["one", "two", "one", "two"]),
        ("a.jsonl", '{"text": "a\u2028b\u2029c\x85d"}\n{"text": "e"}', ["a\u2028b\u2029c\x85d", "e"]),
        ("a.jsonl", '{"text": "\\ud83d\\ude00 \\f \\u2028"}\n', ["\U0001f600 \x0c \u2028"]),
        ("a.jsonl", '{"prompt": null, "text": "kept"}\n{"prompt": " ", "text": "too"}\n', ["kept", "too"]),
        ("a.jsonl", '{"prompt": "the", "text": "first"}\n"plain"\n', ["the", "plain"]),
        ("a.TXT", "one\r\nline\r\n\r\n \r\ntwo\r\n", ["one\nline", "two"]),
        ("a.txt", "one\r\rtwo\r", ["one", "two"]),
        ("a.txt", "one\n\x0c\ntwo a\x00b", ["one", "two a\x00b"]),
        ("a.txt", "one\u2028line\n\n\ufefftwo", ["one\u2028line", "two"]),
        ("a.txt.gz", gzip.compress(b"\xef\xbb\xbfone\n\ntwo", mtime=0), ["one", "two"]),
        ("a.txt", "[1] is a reference\n\n{no json}", ["[1] is a reference", "{no json}"]),
        ("a.txt", "w" * 1_000_001, ["w" * 1_000_001]),
    ],
    ids=_id,
)
def test_a_file_is_read_as_what_it_is(tmp_path: Path, name: str, content: str | bytes, prompts: list[str]) -> None:
    assert read_file(_file(tmp_path, name, content)) == prompts


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a.json", "is one JSON document; write it as .jsonl"),
        ("a.JSON.gz", "is one JSON document; write it as .jsonl"),
        ("a.csv", "is a table; write it as .jsonl"),
        ("a.parquet", "is a table; write it as .jsonl"),
        ("a.jsonl.zst", "is packed; unpack it, or pack it as .gz"),
        ("a.py", "a .py file may hold anything; name a .txt, .jsonl or .ndjson file"),
        ("prompts", "a file without a suffix may hold anything; name a .txt"),
        ("a.gz", "a file without a suffix may hold anything; name a .txt"),
    ],
    ids=_id,
)
def test_a_file_of_another_kind_is_refused_whatever_it_holds(tmp_path: Path, name: str, what: str) -> None:
    assert _refusal(_file(tmp_path, name, ROWS)).startswith(what)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jsonl", ROWS.encode("utf-16"), "is UTF-16, not UTF-8; save it as UTF-8"),
        ("a.txt", "one two".encode("utf-16-le"), "is UTF-16 without a byte order mark"),
        ("a.txt", "\ufeffone".encode("utf-32-le"), "is UTF-32, not UTF-8; save it as UTF-8 (`iconv -f UTF-32"),
        ("a.txt", b"one\r\ntwo\n\xff", "line 3 is not UTF-8 (byte 9); convert it"),
        ("a.txt", b"half \xed\xa0\xbd", "line 1 is not UTF-8 (byte 5)"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "is packed by gzip; unpack it, or let its name end in .gz"),
        ("a.jsonl.gz", ROWS, "is no whole gzip file (Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(ROWS.encode(), mtime=0)[:-9], "is no whole gzip file (Compressed file ended"),
        ("a.jsonl.gz", gzip.compress(ROWS.encode(), mtime=0)[:10] + b"\xff" * 30, "is no whole gzip file (Error -3"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("a.txt", "\ufeff \n\n", "the file is empty; put one prompt a paragraph (.txt) or line (.jsonl)"),
        ("a.txt", ROWS, "holds JSON, not text; write it as .jsonl"),
        ("a.txt", '[\n "one",\n "two"\n]', "holds JSON, not text; write it as .jsonl"),
        ("a.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a pointer of Git LFS"),
        (
            "a.jsonl",
            '{"text": "a"}\n\n{"prompt": ""}\n',
            "line 3 has no text under 'prompt' or 'text' ('prompt' is empty)",
        ),
        ("a.jsonl", '{"prompt": null}\n', "line 1 has no text under 'prompt' or 'text' ('prompt' is null); add one"),
        (
            "a.jsonl",
            '{"messages": [], "id": 1}\n',
            "line 1 has no text under 'prompt' or 'text' (its keys: 'messages', 'id')",
        ),
        ("a.jsonl", "{}\n", "line 1 has no text under 'prompt' or 'text' (it has no keys)"),
        (
            "a.jsonl",
            '{"prompt": ["a"], "text": "b"}\n',
            "line 1 has no text under 'prompt' or 'text' ('prompt' is a list, 'text' is text)",
        ),
        ("a.jsonl", '{"text": 5}\n', "line 1 has no text under 'prompt' or 'text' ('text' is a number)"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "line 2 has no text under 'prompt' or 'text' (it is a list)"),
        ("a.jsonl", "5\n", "line 1 has no text under 'prompt' or 'text' (it is a number)"),
        ("a.jsonl", '{"text": "a", "text": "b"}\n', "line 1 has the key 'text' twice; keep one of them"),
        (
            "a.jsonl",
            '{"text": "a"}\r\n{"text": "\\ud83d b"}\r\n',
            "line 2 has half of a surrogate pair, \\ud83d, which is",
        ),
        ("a.jsonl", '{\n  "prompt": "x"\n}\n', "line 1 is not JSON (Expecting property name"),
        ("a.jsonl", "[" * 200_000 + "\n", "line 1 is not JSON"),
        ("a.jsonl", '{"text": "a\x00"}\n', "line 1 is not JSON (Invalid control character"),
        ("a.jsonl", '{"\\u001b[31m\u202e' + "k" * 10**6 + '": 1}\n', "line 1 has no text"),
    ],
    ids=_id,
)
def test_what_cannot_be_read_is_told_with_its_line(tmp_path: Path, name: str, content: str | bytes, what: str) -> None:
    assert _refusal(_file(tmp_path, name, content)).startswith(what)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    assert _refusal(tmp_path / "folder.txt").startswith("is a folder; name a readable file")
    assert _refusal(Path("/dev/null")).startswith("is no regular file; name a readable")
    assert _refusal(tmp_path / "none.jsonl").startswith("no such file; choose from ")
    assert _refusal(tmp_path / ("long" * 100 + ".txt")).startswith("cannot be read (File name too long)")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("p.txt", "only\none\n", "(prompts are separated by a blank line)"),
        ("p.ndjson", '"one"\n', "(prompts are one a line)"),
    ],
)
def test_too_few_prompts_are_refused_before_a_model_loads(tmp_path: Path, name: str, content: str, told: str) -> None:
    path = str(_file(tmp_path, name, content))
    check_prompts(Workload(path, num_samples=1), synthetic=False)
    with pytest.raises(StudyError) as refusal:
        check_prompts(Workload(path, num_samples=64), synthetic=False)
    assert str(refusal.value) == f"--num-samples 64: {name} holds 1 {told}; add prompts, or give --num-samples 1"


def test_more_problems_than_humaneval_has_are_refused_before_a_model_loads() -> None:
    check_prompts(Workload("humaneval", num_samples=164), synthetic=False)
    with pytest.raises(StudyError, match="--num-samples 165: HumanEval has 164 problems"):
        check_prompts(Workload("humaneval", num_samples=165), synthetic=False)


def test_shorter_prompts_are_no_remedy_for_prompts_without_tokens(tmp_path: Path) -> None:
    path = _file(tmp_path, "p.txt", "one\n\n?\n\nthree")
    with pytest.raises(
        PromptsUnavailable, match=r"--num-samples 3: .* give only 2 that this model's tokenizer"
    ) as refusal:
        load_prompts(Workload(str(path), num_samples=3), lambda text: [ord(text[0])] if text.isalpha() else [])
    assert "--max-prompt" not in str(refusal.value)
