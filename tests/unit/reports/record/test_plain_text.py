"""What comes from outside is one short line that every terminal can show and that nothing acts on."""

from __future__ import annotations

import io

import pytest

from reports.record.plain_text import (
    cleaned,
    fenced,
    one_line,
    printable,
    shortened,
    tolerate_any_text,
    with_its_letters,
    without_markup,
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\r\n\tand\x0ba tab\u2028end", "two lines and a tab end"),
        ("\x1b[31mred\x07 \x9b2J", "\\x1b[31mred\\x07 \\x9b2J"),
        ("caf\xe9 模型 \U0001f600", "caf\xe9 模型 \U0001f600"),
        ("half \ud83d of \udcc3", "half \\ud83d of \\udcc3"),
        ("turned \u202e round \u200b \ufeff", "turned \\u202e round \\u200b \\ufeff"),
        (ValueError("[/b] is no markup"), "[/b] is no markup"),
        ("", ""),
    ],
)
def test_a_line_holds_nothing_that_a_terminal_acts_on(text: object, line: str) -> None:
    assert one_line(text) == line
    assert line.isprintable()
    if isinstance(text, str) and len(text.split()) < 2:
        assert printable(text) == line


@pytest.mark.parametrize("text", ["word " * 500_000, "a" * 2_000_000, "\x1b" * 1_000_000, "\n" * 2_000_000 + "end"])
def test_a_line_is_short_whatever_the_text(text: str) -> None:
    assert len(one_line(text)) <= 400
    assert len(one_line(text, 50)) <= 50


def test_a_text_is_cut_between_words_and_says_so() -> None:
    assert shortened("one two three four", 17) == "one two ..."
    assert shortened("one two three four", 18) == "one two three four"
    assert shortened("x" * 30, 10) == "xxxxxx ..."


def test_a_file_in_ascii_takes_any_text() -> None:
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding="ascii")
    with pytest.raises(UnicodeEncodeError):
        file.write("模")
    tolerate_any_text(file, io.StringIO())
    file.write("模 \ud83d")
    file.flush()
    assert buffer.getvalue() == b"\\u6a21 \\ud83d"


def test_a_name_read_in_an_ascii_locale_gets_its_letters_back() -> None:
    assert with_its_letters("模-ü".encode().decode("ascii", "surrogateescape")) == "模-ü"
    assert with_its_letters("模-ü") == "模-ü"
    assert with_its_letters("latin-\udcfc") == "latin-\ufffd"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_nothing_goes_through_a_fence_that_acts_on_a_terminal_but_its_colours(kind: type[io.StringIO]) -> None:
    file = kind()
    fence = fenced(file)
    assert fenced(fence) is fence
    print(
        "\x1b[1;31mred\x1b[0m\x1b[2J\x1b]0;title\x07 \x9b2J\rgone\u202e\ttab \xa0│ é模 \ud83d\r\nend",
        file=fence,
        flush=True,
    )
    colours = ("\x1b[1;31m", "\x1b[0m") if kind is Terminal else ("\\x1b[1;31m", "\\x1b[0m")
    assert file.getvalue() == (
        f"{colours[0]}red{colours[1]}\\x1b[2J\\x1b]0;title\\x07 \\x9b2J\\rgone\\u202e\ttab \xa0│ é模 \\ud83d\r\nend\n"
    )
    assert (fence.isatty(), fence.encoding) == (kind is Terminal, file.encoding)


def test_values_are_cleaned_at_any_depth_and_figures_stay() -> None:
    value = {"a\x1b": [{"b": "c\x07", "kept": "d\x07"}, 1.5, None], "series": [1, 2], "long": "x" * 5_000}
    made = cleaned(value, but=("kept",))
    assert made["a\\x1b"] == [{"b": "c\\x07", "kept": "d\x07"}, 1.5, None]
    assert made["series"] is value["series"] and len(made["long"]) == 2_000


def test_names_make_no_markup_in_markdown_and_code_stays() -> None:
    text = "a <img src=x> </td> <!-- p < 0.05 <details> x<br>y\n```\nif a <b:\n```\n<details open>"
    assert without_markup(text) == (
        "a &lt;img src=x> &lt;/td> &lt;!-- p < 0.05 <details> x<br>y\n```\nif a <b:\n```\n&lt;details open>"
    )
