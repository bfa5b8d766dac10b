"""Tracking with the real clients, offline: what Weights & Biases, MLflow and TensorBoard wrote is read back."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fixtures.study.study import StudyError
from fixtures.suite import tracking, wandb_sink
from fixtures.suite.tracking import TrackedCase, Tracker, check_tracking, start_tracking
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


class Kept:
    """A sink that keeps what it is told."""

    name = "another"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def case(self, tracked: TrackedCase, number: int) -> None:
        self.told.append(tracked.case)

    def page(self, path: Path) -> None:
        self.told.append(path)

    def end(self, cases: Sequence[TrackedCase]) -> None:
        self.told.append(len(cases))


class Broken(Kept):
    """A sink whose service is not to be had."""

    name = "a service"
    calls = 0

    def case(self, tracked: TrackedCase, number: int) -> None:
        self.calls += 1
        raise ConnectionError("no route")


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
    broken, working = Broken(), Kept()
    tracker = Tracker(broken, None, working)
    with pytest.warns(UserWarning, match="a service failed and is off for the rest of the run: no route"):
        tracker.log(RESULT)
    tracker.log(FAILED)
    tracker.finish()
    assert broken.calls == 1
    assert working.told == [RESULT.id, FAILED.id, 2], "the others go on"


@pytest.mark.filterwarnings("error")
def test_where_warnings_are_errors_the_run_goes_on_and_the_failure_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracker = Tracker(Broken())
    tracker.log(RESULT)
    tracker.finish()
    assert "no route" in capsys.readouterr().err


def test_a_server_that_cannot_be_reached_is_waited_for_briefly_and_the_run_written_offline(
    keyless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setattr(wandb_sink, "INIT_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.warns(UserWarning, match="cannot be reached.*offline"):
        tracker = start_tracking({"wandb_project": "p"}, {})
    tracker.log(RESULT)
    tracker.finish()
    assert time.monotonic() - began < 30
    assert history(written(keyless))[0]["case"] == RESULT.id


def test_a_page_that_cannot_be_made_fails_no_run(tmp_path: Path) -> None:
    kept = Kept()
    with pytest.warns(UserWarning, match=r"none\.jsonl: no such file"):
        Tracker(kept).keep_page(tmp_path / "none.jsonl")
    assert kept.told == []


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


@pytest.mark.parametrize("option", ["wandb_project", "mlflow_experiment", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_refused_by_its_extra(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    extra = option.partition("_")[0]
    with pytest.raises(StudyError, match=rf"--{option.replace('_', '-')} 'x': .*pip install -e '\.\[{extra}\]'"):
        check_tracking({option: "x"})


def written_page(folder: Path) -> Path:
    results = folder / "run.jsonl"
    writer = RunWriter(results)
    writer.run({"study": {"name": "s"}})
    writer.case(FAILED)
    writer.end({})
    writer.close()
    return results


def test_mlflow_has_a_run_below_the_suite_s_for_each_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra: pip install -e '.[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.chdir(tmp_path)
    tracker = start_tracking({"mlflow_experiment": "decoding"}, {"study": {"name": "s"}, "git_commit": "abc"})
    tracker.log(RESULT)
    tracker.log(FAILED)
    tracker.keep_page(written_page(tmp_path))
    tracker.finish()
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("decoding")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"s", RESULT.id, FAILED.id}
    suite, solved, failed = runs["s"], runs[RESULT.id], runs[FAILED.id]
    assert solved.data.metrics == {
        **{name: float(value) for name, value in RESULT.metrics.items()},
        "load_seconds": 1.5,
    }
    assert solved.data.params["draft_quant"] == "4bit" and solved.data.params["assist_toks"] == "3"
    assert (solved.info.status, failed.info.status, suite.info.status) == ("FINISHED", "FAILED", "FINISHED")
    assert {run.data.tags["mlflow.parentRunId"] for run in (solved, failed)} == {suite.info.run_id}
    assert suite.data.tags["git_commit"] == "abc"
    assert [entry.path for entry in client.list_artifacts(suite.info.run_id)] == ["run.html"]


def test_an_mlflow_server_that_is_not_there_costs_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="needs the extra: pip install -e '.[mlflow]'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.warns(UserWarning, match="--mlflow-experiment 'x': cannot be started, so this run is not"):
        tracker = start_tracking({"mlflow_experiment": "x"}, {})
    tracker.log(RESULT)
    tracker.finish()


def test_tensorboard_has_a_trial_for_each_case(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra: pip install -e '.[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = start_tracking({"tensorboard": str(tmp_path / "events")}, {"study": {"name": "s"}})
    tracker.log(RESULT)
    tracker.log(FAILED)
    tracker.finish()
    folders = {path.parent.name for path in (tmp_path / "events").rglob("events.out.*")}
    assert folders == {"events", "case-000", "case-001"}
    trial = EventAccumulator(str(tmp_path / "events" / "case-000")).Reload()
    figures = {name: trial.Scalars(name)[0].value for name in trial.Tags()["scalars"]}
    assert figures == pytest.approx({**RESULT.metrics, "load_seconds": 1.5})
    (settings,) = [
        content
        for name, content in trial.summary_metadata.items()
        if "session_start" in name and b"assist_toks" in content.plugin_data.content
    ]
    assert RESULT.id.encode() in settings.plugin_data.content


def test_a_file_is_no_folder_for_events(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StudyError, match=r"--tensorboard '.*taken': is a file; name a folder"):
        check_tracking({"tensorboard": str(tmp_path / "taken")})
