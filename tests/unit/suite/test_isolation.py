"""The supervisor with real processes that die, hang, leave or are told to end, in the places where measuring does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.study.study import StudyError
from fixtures.suite import isolation
from fixtures.suite.isolation import Supervisor, is_asked_for
from fixtures.suite.supervised import SLOT, Account, Doing, Supervised, is_supervised, take_up

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import ctypes, os, signal, sys, time
from pathlib import Path
from fixtures.suite.supervised import OVER, take_up

given, run = take_up(), Path(sys.argv[1])
heart, ended = given.heartbeat, given.ended
with run.open("a") as file:
    file.write(f"{given.file} {ended and (ended.status, ended.subject)}\\n")
children = len(run.read_text().splitlines())
heart.opened(run)

def measure():
    with run.open("a") as file:
        file.write('{"kind":"case"}')

"""


@pytest.fixture
def supervise(tmp_path: Path) -> Callable[[str], tuple[int, list[str], list[str]]]:
    """`supervise(code)`: a supervisor whose children run this; its exit code, its lines, what each child was told."""

    def run(script: str) -> tuple[int, list[str], list[str]]:
        told: list[str] = []
        file = tmp_path / "run.txt"
        command = [sys.executable, "-c", CHILD + textwrap.dedent(script), str(file)]
        code = Supervisor(command, ROOT, told.append).run()
        return code, told, file.read_text().splitlines()

    return run


def test_a_process_that_ends_well_is_the_only_one(supervise: Any) -> None:
    assert supervise("heart.tell(OVER); sys.exit(5)") == (5, [], ["None None"])


def test_one_that_never_began_tells_its_own_exit_code() -> None:
    assert Supervisor([sys.executable, "-c", "raise SystemExit(4)"], ROOT).run() == 4


@pytest.mark.parametrize(
    ("death", "how"),
    [
        ("ctypes.string_at(0)", "by SIGSEGV"),
        ("os.abort()", "by SIGABRT"),
        ("os.kill(os.getpid(), 9)", "by SIGKILL"),
        ("os._exit(0)", "itself with exit code 0"),
    ],
)
def test_what_kills_the_process_is_told_to_the_next_one(supervise: Any, death: str, how: str) -> None:
    """The case that was decoding is set aside; the next process goes on with the run file."""
    code, told, children = supervise(
        f"""
        if children == 1:
            heart.tell("decoding", "a case", 60.0, "why")
            {death}
        heart.tell(OVER)
        sys.exit(3)
        """
    )
    assert code == 3
    assert told == [f"a case: its process ended {how} while decoding; it is set aside, and the rest goes on"]
    assert children[0] == "None None" and children[1].endswith("run.txt ('crashed', 'a case')")


def test_a_generation_that_does_not_return_is_ended(supervise: Any) -> None:
    """Blocked in a system call with signals off, as a kernel that hangs: only the end of the process ends it."""
    began = time.monotonic()
    code, told, children = supervise(
        """
        if children == 1:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            heart.tell("warming up", "a case", 0.3, "case_timeout")
            os.read(os.pipe()[0], 1)
        heart.tell(OVER)
        sys.exit(3)
        """
    )
    assert (code, children[1].partition(" ")[2]) == (3, "('timeout', 'a case')")
    assert "a case: over its time limit of 0.3 s (case_timeout) while warming up" in told[0]
    assert time.monotonic() - began < 120, "it did not wait for what never comes"


def test_many_short_generations_are_no_hang(supervise: Any) -> None:
    code, told, _ = supervise(
        """
        for _ in range(40):
            heart.tell("decoding", "a case", 0.5, "why")
            time.sleep(0.02)
        heart.tell(OVER)
        """
    )
    assert (code, told) == (0, [])


def test_death_between_cases_is_survived_as_long_as_something_was_measured(supervise: Any) -> None:
    code, told, _ = supervise(
        """
        if children < 3:
            measure()
        os.kill(os.getpid(), 9)
        """
    )
    assert code == 1
    assert told[0] == "The measuring process ended by SIGKILL while between cases; a new one goes on"
    assert "no case was measured since it began" in told[-1] and "go on with --resume" in told[-1]
    assert len(told) < 5, "it does not go on for ever"


def test_the_same_case_does_not_end_a_second_process(supervise: Any) -> None:
    code, told, children = supervise('heart.tell("decoding", "a case")\nos.abort()')
    assert (code, len(children)) == (1, 2)
    assert "it was busy with what was set aside before; go on with --resume" in told[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_asks_the_supervisor_to_end_reaches_the_process_once(supervise: Any, number: signal.Signals) -> None:
    """The process ends as it sees fit, and no other one is started."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("whoever started the tests has this signal ignored, as nohup does")
    asked = threading.Timer(1.5, os.kill, (os.getpid(), number))
    asked.start()
    code, told, children = supervise(
        """
        def end(number, frame):
            with run.open("a") as file:
                file.write(f"heard {number}\\n")
            sys.exit(2)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, end)
        heart.tell("decoding", "a case", 600.0, "why")
        time.sleep(60)
        """
    )
    assert (code, told, children) == (2, [], ["None None", f"heard {int(number)}"])


def test_a_process_that_hangs_when_it_is_to_end_is_killed(supervise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "PATIENCE", 0.3)
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    code, told, _ = supervise(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        heart.tell("decoding", "a case", 600.0, "why")
        time.sleep(60)
        """
    )
    assert code == 128 + signal.SIGKILL and "ended by SIGKILL while decoding; go on with --resume" in told[0]


def test_the_process_dies_with_its_supervisor(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(CHILD + "run.write_text(str(os.getpid()))\ntime.sleep(60)\n")
    supervisor = tmp_path / "supervisor.py"
    supervisor.write_text(
        "import sys\nfrom pathlib import Path\nfrom fixtures.suite.isolation import Supervisor\n"
        f"Supervisor([sys.executable, {str(child)!r}, {str(tmp_path / 'pid')!r}], Path({str(ROOT)!r})).run()\n"
    )
    process = subprocess.Popen([sys.executable, supervisor], env={**os.environ, "PYTHONPATH": str(ROOT)})
    pid = _when(lambda: int((tmp_path / "pid").read_text()))
    process.kill()
    process.wait()
    _when(lambda: _is_gone(pid) or 1 / 0)


def test_an_account_survives_a_process_that_died_while_it_wrote() -> None:
    file = os.memfd_create("test")
    os.ftruncate(file, 2 * SLOT)
    account = Account(file)
    assert account.read() == Doing()
    account.write(Doing("decoding", "first"))
    account.write(Doing("decoding", "second"))
    os.pwrite(file, b"torn", 20)  # the second one's place is the first slot
    assert Account(file).read().subject == "first"
    account.write(Doing("decoding", "x" * 2 * SLOT))
    assert Account(file).read().subject == "first", "what has no room is not written"
    os.close(file)


def test_without_supervision_nothing_is_told_and_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(isolation.VARIABLE, raising=False)
    assert take_up() is None and not is_supervised()
    assert Supervised.__dataclass_fields__.keys() == {"name", "heartbeat", "file", "ended"}


@pytest.mark.parametrize(
    ("given", "gpu", "isolated"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"--no-isolate": "true"}, True, False),
        ({"--isolate": "false"}, True, False),
        ({"--isolate": "true"}, False, True),
        ({"--device": "cpu"}, True, False),
        ({"collectonly": True, "--isolate": "true"}, True, False),
        ({"usepdb": True}, True, False),
    ],
)
def test_who_measures_by_default(
    given: dict[str, Any], gpu: bool, isolated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own where the device is a GPU that is not hidden."""
    monkeypatch.setattr("fixtures.measuring.device.has_gpu_driver", lambda: gpu)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert is_asked_for(_config(given)) is isolated


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"--isolate": "true", "--no-isolate": "true"}, "cannot be given together with --no-isolate"),
        ({"--isolate": "true", "usepdb": True}, "cannot be given together with --pdb"),
        ({"--isolate": "perf_tests"}, "--isolate"),
    ],
)
def test_contradictions_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises((StudyError, ValueError), match=words):
        is_asked_for(_config(given))


def _config(given: dict[str, Any]) -> Any:
    place = SimpleNamespace(dir=ROOT, args=("perf_tests",), plugins=None)
    return SimpleNamespace(
        args=["perf_tests"], invocation_params=place, getoption=lambda name, default=None: given.get(name, default)
    )


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _when(look: Callable[[], Any]) -> Any:
    """What a look gives once it gives something."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return look()
        except (OSError, ValueError, ZeroDivisionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
