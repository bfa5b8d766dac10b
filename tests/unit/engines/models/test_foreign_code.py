"""A model's own code, pickles and kernels run only where the model was named; nothing ever asks at the terminal."""

from __future__ import annotations

import ast
import builtins
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.models import capabilities, hub
from fixtures.engines.transformers.models.foreign_code import CONVERSION_OFF, as_published
from fixtures.engines.transformers.models.quantizable import why_not_quantizable
from fixtures.estimate.sizes import draft_size, target_size
from fixtures.measuring.prospects import Prospects
from fixtures.study.pairs import NO_PERMISSIONS, Pair, Permissions
from fixtures.study.study import Study, StudyError, Sweep, Workload
from fixtures.study.study_file import load_study
from fixtures.suite.access import ask
from tests.unit.checkpoints import llama, save

CPU = torch.device("cpu")
OWN_CODE, PICKLES = Permissions(own_code=True), Permissions(pickles=True)
CODE = """
from pathlib import Path

Path({marker!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


class OwnConfig(LlamaConfig):
    model_type = "own-llama"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever asks is answered `y`, and the test knows."""
    asked = tmp_path / "asked"

    def answer(prompt: object = "") -> str:
        asked.write_text(str(prompt))
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], Path]:
    """`model(part)`: a checkpoint of which this part (config, model, tokenizer, generate) is code of its own."""

    def make(part: str) -> Path:
        folder = save(tmp_path / part, llama())
        (folder / "own.py").write_text(CODE.format(marker=str(tmp_path / "ran")))
        if part in ("config", "model"):
            named = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
            change(folder / "config.json", model_type="own-llama", auto_map=named)
        if part == "model":  # transformers knows the configuration, and no causal language model for it
            change(folder / "config.json", model_type="clip", auto_map={"AutoModelForCausalLM": "own.OwnModel"})
        if part == "tokenizer":
            named = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
            change(folder / "tokenizer_config.json", auto_map=named, tokenizer_class="OwnTokenizer")
        if part == "generate":
            (folder / "custom_generate").mkdir()
            (folder / "custom_generate" / "generate.py").write_text(CODE.format(marker=str(tmp_path / "ran")))
        return folder

    return make


def nothing_ran(folder: Path) -> bool:
    return not (folder.parent / "ran").exists() and not (folder.parent / "asked").exists()


def load(folder: Path, permissions: Permissions = NO_PERMISSIONS) -> Any:
    return hub.load_model(str(folder), dtype=torch.float32, quantization="none", device=CPU, permissions=permissions)


@pytest.mark.parametrize("part", ["config", "model"])
def test_a_model_that_needs_its_own_code_is_refused_with_the_option(model: Callable[[str], Path], part: str) -> None:
    folder = model(part)
    for refused in (load, lambda path: hub.require_permitted(str(path))):
        with pytest.raises(hub.ModelUnavailable) as refusal:
            refused(folder)
        told = str(refusal.value)
        assert told.startswith(f"{folder} needs code of its own") and told.endswith(f"--trust-remote-code {folder}")
        assert "\n" not in told
    assert nothing_ran(folder)


def test_a_tokenizer_that_needs_its_own_code_is_refused_and_runs_where_it_was_named(
    model: Callable[[str], Path],
) -> None:
    folder = model("tokenizer")
    with pytest.raises(hub.ModelUnavailable, match="--trust-remote-code"):
        hub.load_tokenizer(str(folder))
    assert nothing_ran(folder)
    assert type(hub.load_tokenizer(str(folder), OWN_CODE)).__name__ == "OwnTokenizer"
    assert (folder.parent / "ran").exists() and not (folder.parent / "asked").exists()


def test_a_model_runs_its_own_code_where_it_was_named(model: Callable[[str], Path]) -> None:
    folder = model("config")
    assert type(load(folder, OWN_CODE)).__name__ == "OwnModel"
    assert (folder.parent / "ran").exists() and not (folder.parent / "asked").exists()


def test_a_generate_of_its_own_is_left_aside(model: Callable[[str], Path]) -> None:
    folder = model("generate")
    loaded = load(folder)
    assert "generate" not in vars(loaded) and nothing_ran(folder)


@pytest.mark.parametrize("part", ["config", "model", "tokenizer"])
def test_whatever_looks_at_a_model_before_it_loads_runs_nothing_of_it(model: Callable[[str], Path], part: str) -> None:
    folder = model(part)
    pair = Pair.from_hub(str(folder), str(folder))
    sweep = Sweep("quantization", {"dtype": ("bf16",), "target_quant": ("4bit",), "strategy": ("plain", "assisted")})
    study = Study("unit", "", (pair,), (sweep,), Workload("embedded", 2, 4, 4))
    cases, prospects = study.cases(), Prospects(study)
    reasons = ask(study, cases).reasons
    assert "--trust-remote-code" in reasons[pair.name]
    for case in cases:
        prospects.why_refused(case)
        capabilities.why_unable(case, pair)
    target_size(pair), draft_size(pair)
    assert nothing_ran(folder)


def test_a_configuration_with_a_model_of_its_own_is_not_built_to_look_at_its_layers(
    model: Callable[[str], Path],
) -> None:
    config = hub.load_config(str(model("config")), OWN_CODE)
    folder = model("model")
    (folder.parent / "ran").unlink()
    for asked in (config, hub.load_config(str(folder))):
        with pytest.raises(ValueError, match="trust_remote_code"):
            why_not_quantizable(asked, "4bit", dtype=torch.bfloat16)
    assert nothing_ran(folder)


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_a_kernel_that_a_configuration_names_is_refused(tmp_path: Path, key: str) -> None:
    folder = save(tmp_path / "model", llama())
    change(folder / "config.json", **{key: "somebody/kernel\x1b[2J"})
    with pytest.raises(hub.ModelUnavailable, match=r"the hub's compiled kernel somebody/kernel\\x1b\[2J") as refusal:
        load(folder)
    assert "--trust-remote-code" in str(refusal.value)


class Exploit:
    """What pickle runs when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def pickled(folder: Path, name: str = "pytorch_model.bin", **extra: Any) -> Path:
    """The checkpoint with its weights in a pickle."""
    torch.save(llama().state_dict() | extra, folder / name)
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin"])
def test_weights_in_a_pickle_are_refused_before_anything_loads(tmp_path: Path, name: str) -> None:
    folder = pickled(save(tmp_path / "model", llama()), name)
    if name == "adapter_model.bin":
        change(folder / "config.json", transformers_weights=name)
    for refused in (load, lambda path: hub.require_permitted(str(path))):
        with pytest.raises(hub.ModelUnavailable, match=f"has its weights in {name}, a pickle") as refusal:
            refused(folder)
        assert str(refusal.value).endswith(f"--allow-pickle {folder}")


def test_safetensors_win_over_a_pickle_beside_them(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", llama())
    torch.save({"hostile": Exploit(tmp_path / "ran")}, folder / "pytorch_model.bin")
    load(folder), load(folder, PICKLES)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_that_was_allowed_gives_its_weights_and_still_runs_no_code(tmp_path: Path) -> None:
    wanted = llama().state_dict()["model.embed_tokens.weight"]
    folder = pickled(save(tmp_path / "model", llama()))
    assert torch.equal(load(folder, PICKLES).state_dict()["model.embed_tokens.weight"], wanted)
    hostile = save(tmp_path / "hostile", llama())
    pickled(hostile, hostile=Exploit(tmp_path / "ran"))
    with pytest.raises(Exception):  # noqa: B017  torch's own refusal, of no documented type
        load(hostile, PICKLES)
    assert not (tmp_path / "ran").exists()


def test_transformers_is_kept_from_having_weights_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "0"):
        monkeypatch.delenv(CONVERSION_OFF, raising=False)
        if before is not None:
            monkeypatch.setenv(CONVERSION_OFF, before)
        with as_published():
            assert os.environ[CONVERSION_OFF] == "1"
        assert os.environ.get(CONVERSION_OFF) == before


def test_only_the_command_line_permits_and_only_models_of_the_study(tmp_path: Path) -> None:
    text = 'pair = "llama3-8b-1b"\n[[sweep]]\nexperiment = "baseline"\n'
    path = tmp_path / "given.toml"
    path.write_text(text)
    named = {"model": "owner/big@main", "aux_model": "owner/small"}
    (pair,) = load_study(str(path), named | {"trust_remote_code": "owner/big", "allow_pickle": "owner/small"}).pairs
    assert pair.permissions("owner/big@main") == OWN_CODE and pair.permissions("owner/small") == PICKLES
    assert pair.describe()["own_code"] == ["owner/big@main"]
    (pair,) = load_study(str(path)).pairs
    assert not {"own_code", "pickles"} & pair.describe().keys()
    with pytest.raises(StudyError, match=r"--trust-remote-code 'owner/bigger': is no model .*; name one of owner/big@"):
        load_study(str(path), named | {"trust_remote_code": "owner/bigger"})
    with pytest.raises(StudyError, match=r"--allow-pickle 'x': is no model .*; drop it"):
        load_study(str(path), {"pair": "synthetic-tiny", "prompts": "synthetic", "allow_pickle": "x"})
    path.write_text('trust_remote_code = "meta-llama/Llama-3.1-8B"\n' + text)
    with pytest.raises(StudyError, match="unknown key 'trust_remote_code'"):
        load_study(str(path))


def test_every_call_that_could_run_a_models_code_says_whether_it_may() -> None:
    root = Path(__file__).resolve().parents[4]
    calls, silent = 0, []
    for path in (file for folder in ("fixtures", "tools", "perf_tests") for file in (root / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = ast.unparse(node.func)
                if re.fullmatch(r"(transformers\.)?Auto(Model\w*|Config|Tokenizer)\.from_(pretrained|config)", called):
                    calls += 1
                    if "trust_remote_code" not in {keyword.arg for keyword in node.keywords}:
                        silent.append(f"{path.relative_to(root)}:{node.lineno} {called}")
    assert calls >= 8 and not silent
