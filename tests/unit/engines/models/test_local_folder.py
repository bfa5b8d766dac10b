"""What a local folder's weights are called: the same for copies, another for any other weights, whatever the format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures.engines.transformers.models import hub, local_folder, synthetic
from fixtures.engines.transformers.models.shapes import SHAPES
from tests.unit.synthetic_pairs import save

Change = Callable[[dict[str, torch.Tensor]], None]


@pytest.fixture(params=[True, False], ids=["read whole", "in pieces"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny checkpoint, taken for a small one or for a large one."""
    if not request.param:
        monkeypatch.setattr(local_folder, "READ_WHOLE", 0)
        monkeypatch.setattr(local_folder, "PIECE", 1 << 10)
    local_folder._digest.cache_clear()
    shape = SHAPES["tiny"]
    save(synthetic.build(shape, synthetic.cycle(shape.vocab, 0)), tmp_path / "run1" / "final")
    return tmp_path / "run1" / "final"


def _copy(folder: Path) -> Path:
    return Path(shutil.copytree(folder, folder.parent.parent / "run2" / "final"))


def _added_to_one(weights: dict[str, torch.Tensor]) -> None:
    weights[sorted(weights)[-1]].add_(0.001)


def _one_dropped(weights: dict[str, torch.Tensor]) -> None:
    del weights[sorted(weights)[0]]


def _other_type(weights: dict[str, torch.Tensor]) -> None:
    weights.update({name: tensor.half() for name, tensor in weights.items()})


def test_a_copy_is_the_same_and_its_place_and_writer_do_not_count(folder: Path) -> None:
    copy = _copy(folder)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "transformers_version": "0", "_name_or_path": "/x"}))
    assert hub.resolved_revision(str(copy)) == hub.resolved_revision(str(folder))
    assert hub.resolved_revision(str(folder)).startswith("folder ")
    assert str(folder) not in hub.resolved_revision(str(folder))


@pytest.mark.parametrize("change", [_added_to_one, _one_dropped, _other_type])
@pytest.mark.parametrize("form", ["safetensors", "sharded", "bin", "gguf"])
def test_other_weights_have_another_name_in_every_format(folder: Path, form: str, change: Change) -> None:
    weights = load_file(str(folder / "model.safetensors"))

    def write() -> None:
        names = sorted(weights)
        for path in [*folder.glob("*.safetensors"), *folder.glob("*.bin")]:
            path.unlink()
        if form == "safetensors":
            save_file(weights, str(folder / "model.safetensors"))
        elif form == "sharded":
            for number, part in enumerate((names[::2], names[1::2]), 1):
                kept = {name: weights[name] for name in part}
                save_file(kept, str(folder / f"model-0000{number}-of-00002.safetensors"))
        elif form == "bin":
            torch.save(weights, folder / "pytorch_model.bin")
        else:
            content = b"".join(weights[name].numpy().tobytes() for name in names)
            (folder / "model.gguf").write_bytes(b"GGUF" + str(names).encode() + content)

    write()
    before = local_folder.folder_revision(folder)
    assert local_folder.folder_revision(folder) == before
    change(weights)
    write()
    assert local_folder.folder_revision(folder) != before


def test_another_configuration_is_another_model(folder: Path) -> None:
    before = local_folder.folder_revision(folder)
    copy = _copy(folder)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rope_theta": 5e5}))
    assert local_folder.folder_revision(copy) != before


def test_files_that_are_no_checkpoint_have_a_name_too(folder: Path) -> None:
    names = set()
    for content in (b"", b"\xff" * 9, b"\x08" + b"\0" * 7 + b"not json", b"PK\x05\x06" + b"\0" * 18):
        (folder / "model.safetensors").write_bytes(content)
        (folder / "config.json").write_bytes(content)
        names.add(local_folder.folder_revision(folder))
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    names.add(local_folder.folder_revision(folder))
    assert len(names) == 5
