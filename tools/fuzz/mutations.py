"""Damages to JSON lines and TOML texts that a reader must survive: other values, and bytes out of place. Pure."""

from __future__ import annotations

import json
from copy import deepcopy
from random import Random
from typing import Any

_RAW = {  # what no value of Python is written as; put in the place of a marker
    "<nan>": "NaN",
    "<infinite>": "-Infinity",
    "<beyond a float>": "1e999",
    "<beyond 64 bits>": "9" * 40,
    "<beyond Python>": "7" * 5000,
    "<deep>": "[" * 600 + "]" * 600,
    "<too deep>": '{"a":' * 3000 + "1" + "}" * 3000,
}
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 10**9, 2**31, 2**53, 2**63 - 1, 0.5, -0.0, 1e-300, 5e-324, 1e300, -1e300),
    *(
        "",
        " ",
        "x",
        "0",
        "1.5",
        "nan",
        "\ud800",
        "[/b][red]",
        "\x1b[2J\x07",
        "a\nb\r\x00",
        "../../etc/passwd",
        "é" * 300,
    ),
    *([], {}, [[]], [None], [{}], {"": {}}, {"1": "x"}, {"a": {"b": [1, 2]}}, [0.0, "x"], ["x"] * 20),
    *("ok", "failed", "dropped", "plain", "assisted", "p/t=none,bf16/plain,greedy,dynamic", "4bit", "humaneval"),
    *_RAW,
)
_TOML_VALUES = (
    *("nan", "inf", "-inf", "true", "false", "0", "-1", "1", "1.5", "1e300", "9" * 40, "0x7fffffffffffffff"),
    *(
        '""',
        '" "',
        '"x"',
        '"../../x"',
        '"/etc/passwd"',
        '"\\ud7ff"',
        '"a\\nb\\u0000"',
        '"[/b]"',
        '"' + "é" * 5000 + '"',
    ),
    *("[]", "{}", "[[]]", '["x"]', "[0]", "[1, 1]", "[nan]", "[{ a = 1 }]", "{ a = 1 }", "{ strategy = 1 }", "[true]"),
    *("2026-01-01", "12:30:00", "2026-01-01T00:00:00Z", '"1,2"', '"10m"', '"-5s"', '"1e999m"', "'''x'''", "[" * 200),
)


def mutated_lines(lines: list[Any], random: Random) -> bytes:
    """JSON lines with one to three damages, in values mostly, and in bytes or whole lines now and then."""
    lines = json.loads(json.dumps(lines))
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        what = random.random()
        if what < 0.85 or len(lines) < 2:
            _change_value(lines, random)
        elif what < 0.9:
            del lines[random.randrange(len(lines))]
        elif what < 0.95:
            lines.insert(random.randrange(len(lines)), deepcopy(random.choice(lines)))
        else:
            random.shuffle(lines)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for marker, raw in _RAW.items():
        text = text.replace(json.dumps(marker), raw)
    data = text.encode("utf-8", "surrogatepass")
    return _mutated_bytes(data, random) if random.random() < 0.08 else data


def mutated_toml(text: str, random: Random) -> bytes:
    """A TOML text with one to three damages."""
    lines = text.splitlines()
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(len(lines))
        settings = [number for number, line in enumerate(lines) if "=" in line]
        what = random.random()
        if what < 0.75 and settings:
            place = random.choice(settings)
            key = lines[place].partition("=")[0]
            lines[place] = f"{key}= {random.choice(_TOML_VALUES)}"
        elif what < 0.8:
            lines[place] = lines[place].replace("=", " =", 1).replace("e", "", 1)
        elif what < 0.85:
            del lines[place]
        elif what < 0.9:
            lines.insert(place, random.choice(lines))
        else:
            lines.insert(
                place, f"{random.choice(('x', 'name', 'pair', 'device', 'a.b'))} = {random.choice(_TOML_VALUES)}"
            )
        lines = lines or [""]
    data = ("\n".join(lines) + "\n").encode()
    return _mutated_bytes(data, random) if random.random() < 0.05 else data


def _value(random: Random) -> Any:
    return deepcopy(random.choice(_VALUES))


def _mutated_bytes(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    noise = bytes(random.randrange(256) for _ in range(random.choice((1, 3, 20))))
    return random.choice(
        (data[:place], data[:place] + noise + data[place:], data[:place] + noise + data[place + len(noise) :])
    )


def _change_value(lines: list[Any], random: Random) -> None:
    """Change one value at whatever depth; every level is as likely as the next."""
    holder: Any = lines
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            if isinstance(holder, list):
                holder.append(_value(random))
            else:
                holder[str(_value(random))] = _value(random)
            return
        key = random.choice(keys)
        if isinstance(holder[key], dict | list) and random.random() < 0.85:
            holder = holder[key]
            continue
        _change(holder, key, random)
        return


def _change(holder: Any, key: Any, random: Random) -> None:
    value, what = holder[key], random.random()
    if what < 0.1:
        del holder[key]
    elif what < 0.2 and isinstance(holder, dict):
        holder[str(_value(random))] = holder.pop(key)
    elif what < 0.3 and isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = random.choice((-value, value * 1e6, value / 1e9, value + 0.5, int(value) + 1, str(value)))
    elif what < 0.35 and isinstance(holder, dict):
        holder[key], other = deepcopy(holder[random.choice(list(holder))]), value
        holder[random.choice(list(holder))] = other
    else:
        holder[key] = _value(random)
