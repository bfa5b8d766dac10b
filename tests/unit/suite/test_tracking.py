"""Tracking with the real Weights & Biases client, offline; what it wrote is read back from its own file."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.study.study import StudyError
from fixtures.suite import tracking
from fixtures.suite.tracking import Tracker, check_tracking, start_tracking
from reports.record.run import CaseResult
from reports.record.settings import DecodingPoint, EngineKey
from reports.record.writer import RunWriter

wandb = pytest.importorskip("wandb", reason="needs the extra: pip install -e '.[wandb]'")

RESULT = CaseResult(
    id="embedded/t=none,d=4bit,bf16/assisted,k=3,p=0.4,greedy,dynamic",
    status="ok",
    experiment="speculative_decoding",
    engine=EngineKey("embedded", draft_quant="4bit"),
    point=DecodingPoint("assisted", assist_toks=3),
    metrics={"assisted_latency_tok": 0.05, "assisted_thr": 20.0, "accept_rate": 0.5, "total_rollbacks": 7},
    facts={"load_seconds": 1.5, "revisions": {"target": "x"}},
)

FAILED = CaseResult(id="embedded/t=8bit,bf16/plain,greedy,dynamic", status="failed", reason="no memory")


def records(data: bytes) -> Iterator[bytes]:
    """The whole records of the client's file: LevelDB's log format (32 KiB blocks, parts of 7 + n bytes) after 7 bytes.

    The client's own process writes on while the file is read: the first part that is cut, or whose checksum does not
    hold yet, ends it.
    """
    place, parts = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, place)
        part = data[place + 7 : place + 7 + length]
        if len(part) < length or zlib.crc32(data[place + 6 : place + 7] + part) != checksum:
            return
        parts += part
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def written(folder: Path, patience: float = 30.0) -> list[Any]:
    """The records of the client's offline file, once its own process has written the end of the run."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = []
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            found.append(record)
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.1)
    raise AssertionError(f"the client wrote no end of the run within {patience:g} s")


def history(found: list[Any]) -> list[dict[str, Any]]:
    """What was logged, line by line."""
    histories = [record.history.item for record in found if record.WhichOneof("record_type") == "history"]
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items} for items in histories
    ]


@pytest.fixture
def keyless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to run in, and a user without a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    wandb.teardown()  # the client keeps the first folder that it saw in its process


def test_without_a_key_every_case_is_written_offline_under_the_seeds_names(keyless: Path) -> None:
    with pytest.warns(UserWarning, match="offline"):
        tracker = start_tracking({"wandb_project": "p", "wandb_run": "r"}, {"study": {"name": "s"}})
    tracker.log(RESULT)
    tracker.log(FAILED)
    results = keyless / "run.jsonl"
    writer = RunWriter(results)
    writer.run({"study": {"name": "s"}})
    writer.case(FAILED)
    writer.end({})
    writer.close()
    tracker.keep_page(results)
    tracker.finish()
    found = written(keyless)
    line, failed, table = history(found)
    wanted = {"assisted_latency_tok": 0.05, "assisted_thr": 20.0, "accept_rate": 0.5, "total_rollbacks": 7}
    assert {name: line[name] for name in wanted} == wanted
    assert line["case"] == RESULT.id
    assert line["draft_quant"] == "4bit"
    assert line["load_seconds"] == 1.5
    assert "revisions" not in line
    assert failed["status"] == "failed"

    (file,) = keyless.glob("wandb/offline-run-*/files/" + table["cases/path"])
    cases = json.loads(file.read_text())
    rows = [dict(zip(cases["columns"], row, strict=True)) for row in cases["data"]]
    assert [(row["case"], row["status"]) for row in rows] == [(RESULT.id, "ok"), (FAILED.id, "failed")]
    assert rows[0]["accept_rate"] == 0.5
    assert rows[1]["accept_rate"] is None

    artifacts = [record.artifact for record in found if record.WhichOneof("record_type") == "artifact"]
    (artifact,) = [each for each in artifacts if each.type == "report"]  # the client keeps a table's file as another
    assert artifact.name == "page"
    (entry,) = artifact.manifest.contents
    page = results.with_suffix(".html")
    assert (entry.path, entry.size) == ("run.html", page.stat().st_size)
    assert FAILED.id in page.read_text()


def test_a_file_that_is_being_written_is_read_up_to_its_last_whole_record(keyless: Path) -> None:
    with pytest.warns(UserWarning, match="offline"):
        tracker = start_tracking({"wandb_project": "p"}, {})
    tracker.log(RESULT)
    tracker.finish()
    count = len(written(keyless))
    (file,) = keyless.glob("wandb/offline-run-*/run-*.wandb")
    whole = file.read_bytes()
    every = list(records(whole))
    assert len(every) == count
    for cut in range(len(whole)):
        begun = list(records(whole[:cut]))
        assert begun == every[: len(begun)]
        assert len(begun) < count
        torn = list(records(whole[:cut] + bytes(len(whole) - cut)))
        assert torn == every[: len(torn)]


def test_a_client_that_fails_is_switched_off_and_the_run_goes_on() -> None:
    class Broken:
        calls = 0

        def log(self, *arguments: Any, **more: Any) -> None:
            Broken.calls += 1
            raise ConnectionError("no route")

    tracker = Tracker(Broken())
    with pytest.warns(UserWarning, match="no route"):
        tracker.log(RESULT)
    tracker.log(RESULT)
    tracker.finish()
    assert Broken.calls == 1


@pytest.mark.filterwarnings("error")
def test_where_warnings_are_errors_the_run_goes_on_and_the_failure_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken:
        def log(self, *arguments: Any, **more: Any) -> None:
            raise ConnectionError("no route")

    tracker = Tracker(Broken())
    tracker.log(RESULT)
    tracker.finish()
    assert "no route" in capsys.readouterr().err


def test_a_server_that_cannot_be_reached_is_waited_for_briefly_and_the_run_written_offline(
    keyless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setattr(tracking, "INIT_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.warns(UserWarning, match="cannot be reached.*offline"):
        tracker = start_tracking({"wandb_project": "p"}, {})
    tracker.log(RESULT)
    tracker.finish()
    assert time.monotonic() - began < 30
    assert history(written(keyless))[0]["case"] == RESULT.id


def test_a_page_that_cannot_be_made_fails_no_run(tmp_path: Path) -> None:
    class Keeping:
        def log_artifact(self, artifact: Any) -> None:
            raise AssertionError("there is no page to keep")

    with pytest.warns(UserWarning, match=r"none\.jsonl: no such file"):
        Tracker(Keeping()).keep_page(tmp_path / "none.jsonl")


def test_without_a_project_nothing_is_tracked(keyless: Path) -> None:
    tracker = start_tracking({}, {})
    tracker.log(RESULT)
    tracker.keep_page(keyless / "none.jsonl")
    tracker.finish()
    assert not list(keyless.iterdir())


@pytest.mark.parametrize("name", ["wandb_entity", "wandb_run"])
def test_a_run_or_entity_without_a_project_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match=f"--{name.replace('_', '-')} 'x'.*--wandb-project"):
        check_tracking({name: "x"})
