"""The hub's refusals, said in one line with what to do, from a real client talking to a server that refuses."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config

from fixtures.engines.transformers.models import hub, synthetic
from fixtures.engines.transformers.models.shapes import SHAPES
from tests.unit.synthetic_pairs import save

ROOT = Path(__file__).resolve().parents[4]
REFUSALS = {"gated": (403, "GatedRepo"), "missing": (404, "RepoNotFound"), "old": (404, "RevisionNotFound")}

ASK = """
import sys, torch
from huggingface_hub import constants
from fixtures.engines.transformers.models import hub
for name in sys.argv[1:]:
    constants.HF_HUB_OFFLINE = name == "owner/model"
    for load in (hub.load_tokenizer, lambda n: hub.load_model(
            n, dtype=torch.float32, quantization="none", device=torch.device("cpu")), hub.resolved_revision):
        try:
            load(name)
        except hub.ModelUnavailable as error:
            print(error)
        except Exception as error:
            print("NOT EXPLAINED", type(error).__name__, error)
"""


class Refusing(BaseHTTPRequestHandler):
    """Answers as the hub does for a model that is gated, missing, or lacks the revision."""

    def do_GET(self) -> None:
        kind = next((name for name in REFUSALS if f"{name}/model" in self.path), "missing")
        status, code = REFUSALS[kind]
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", f"{kind}, says the server")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing_hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_refusal_of_the_hub_says_what_to_do(tmp_path: Path, refusing_hub: str) -> None:
    names = ["gated/model", "missing/model", "old/model@v0", "owner/model"]
    given = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": refusing_hub}
    given.pop("HF_TOKEN", None)
    done = subprocess.run(
        [sys.executable, "-c", ASK, *names],
        cwd=ROOT,
        env=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 12, "one line for the tokenizer, the model and the revision of each"
    for gated in lines[:3]:
        assert gated.startswith("gated/model is gated: accept its licence on https://huggingface.co/gated/model")
        assert "HF_TOKEN" in gated
    for missing in lines[3:6]:
        assert missing.startswith("missing/model is not on the hub (or private): check the spelling")
    for old in lines[6:9]:
        assert old == "old/model has no revision 'v0': correct what follows the @"
    for offline in lines[9:]:
        assert offline.startswith("owner/model is not in the local cache and the hub cannot be reached: connect once")
        assert "--pair embedded" in offline


def load_model(model: str) -> Any:
    return hub.load_model(model, dtype=torch.float32, quantization="none", device=torch.device("cpu"))


@pytest.mark.parametrize("load", [hub.load_tokenizer, load_model])
def test_a_folder_that_holds_no_model_is_refused_in_one_line(tmp_path: Path, load: Callable[[str], Any]) -> None:
    with pytest.raises(hub.ModelUnavailable) as refusal:
        load(str(tmp_path))
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_that_does_not_exist_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in (str(tmp_path / "no" / "such"), "./nothing"):
        with pytest.raises(hub.ModelUnavailable, match="give a local folder") as refusal:
            hub.load_tokenizer(name)
        assert "\n" not in str(refusal.value)


def test_a_damaged_weights_file_is_named(tmp_path: Path) -> None:
    shape = SHAPES["tiny-draft"]
    save(synthetic.build(shape, synthetic.cycle(shape.vocab, 0)), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(hub.ModelUnavailable, match="damaged") as refusal:
        load_model(str(tmp_path))
    assert str(tmp_path) in str(refusal.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 22.03 GiB of which 1.19 GiB "
            "is free."
        ),
        torch.AcceleratorError("CUDA error: out of memory", 2),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: f"{type(error).__name__}-{str(error)[:24]}",
)
def test_memory_that_runs_out_while_weights_are_quantized_is_told_as_that_and_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """transformers 5 catches it and raises another error, which points to a report that a quiet run does not show."""
    import bitsandbytes as bnb
    from transformers.utils import logging as transformers_logging

    from fixtures.engines.transformers.models.frames import without_frames
    from fixtures.measuring.failures import judge

    shape = SHAPES["tiny"]
    synthetic.build(shape, synthetic.cycle(shape.vocab, 0), dtype=torch.bfloat16).save_pretrained(tmp_path)

    def full(*arguments: Any, **settings: Any) -> Any:
        raise type(error)(*error.args)

    monkeypatch.setattr(bnb.nn.Params4bit, "to", full)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with pytest.raises(RuntimeError) as caught:
            hub.load_model(str(tmp_path), dtype=torch.bfloat16, quantization="4bit", device=torch.device("cpu"))
    finally:
        transformers_logging.set_verbosity(verbosity)
    status, reason = judge(caught.value)
    assert status == "oom", caught.value
    if isinstance(error, torch.OutOfMemoryError):
        assert reason.startswith("asked 2.00 GiB, free 1.19 GiB: ")
    assert "REPORT" not in "".join(capsys.readouterr())
    kept = without_frames(caught.value)  # as whoever loads keeps it, to tell it again
    del caught
    gc.collect()
    assert not any(type(one) is bnb.nn.Linear4bit for one in gc.get_objects()), kept


def test_a_model_of_another_kind_is_refused_in_one_short_line(tmp_path: Path) -> None:
    T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2).save_pretrained(tmp_path)
    with pytest.raises(hub.ModelUnavailable) as refusal:
        load_model(str(tmp_path))
    assert str(refusal.value) == (
        f"{tmp_path} holds a T5Config, which is no causal language model of transformers: give a model that continues "
        "its text (AutoModelForCausalLM)"
    )


@pytest.mark.parametrize("config", ["{}", '{"model_type": "of the future"}', "{", "[]"])
def test_a_configuration_that_tells_no_model_is_refused_in_one_short_line(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(hub.ModelUnavailable) as refusal:
        load_model(str(tmp_path))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 2 * len(str(tmp_path)) + 350


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may read everything: as another user, for a while."""
    user = os.getresuid()
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(*user)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_may_not_be_read_is_no_damaged_checkpoint(name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        shape = SHAPES["tiny-draft"]
        save(synthetic.build(shape, synthetic.cycle(shape.vocab, 0)), folder)
        (folder / name).chmod(0)
        with _as_nobody(), pytest.raises(hub.ModelUnavailable) as refusal:
            load_model(place)
        assert f"({name}: permission denied): make the folder readable" in str(refusal.value)
        assert "damaged" not in str(refusal.value)
