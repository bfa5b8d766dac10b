"""Options and hooks only: what the command line says becomes one Study, its cases become pytest items.

No logic of its own: parsing is in fixtures/study/, the run in fixtures/suite/, the table in reports/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import fixtures.installed  # noqa: F401  # says what is missing, before an import fails
from fixtures.engines.transformers.models.frames import without_frames
from fixtures.estimate.asked import check_estimate, estimate_lines
from fixtures.measuring.case import CaseFailed, CaseSkipped
from fixtures.measuring.turns import turns_asked_for
from fixtures.study import options
from fixtures.study.shard import read_shard
from fixtures.study.study import EngineKey, StudyError
from fixtures.suite import disturbances, gating, isolation, items
from fixtures.suite.progress import resuming
from fixtures.suite.session import BenchSession
from fixtures.suite.solving import failed_to_load
from fixtures.suite.solving import solve as solve_problems
from fixtures.suite.supervised import OVER, take_up
from fixtures.suite.tracking import check_tracking
from reports.launch.block_runs import stopped_by_termination
from reports.record.plain_text import one_line, tolerate_any_text
from reports.record.reader import read_run
from reports.record.run import CaseResult, RunWriteError
from reports.views.tables import print_run

if TYPE_CHECKING:
    from fixtures.engines.transformers.models.engine import Engine

SESSION = pytest.StashKey[BenchSession]()
BEGUN = pytest.StashKey[bool]()
ESTIMATE = pytest.StashKey[dict[str, str]]()
ESTIMATED = pytest.StashKey[list[str]]()
LONGEST_REFUSAL = 1000  # characters: some list what may be chosen
DRAWN = pytest.StashKey[bool]()
FINISHED = pytest.StashKey[bool]()
LOST = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)
    gating.add_options(parser)


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Leave the measuring to a process of its own where that is asked for; None has pytest go on in this one."""
    try:
        return isolation.supervise(config) if isolation.is_asked_for(config) else None
    except (StudyError, ValueError) as error:
        raise pytest.UsageError(one_line(error, LONGEST_REFUSAL)) from None


def pytest_configure(config: pytest.Config) -> None:
    tolerate_any_text()
    given = options.given_options(config)
    try:
        options.refuse_swallowed(given)
        if not options.measures(config):
            return
        disturbances.refuse_what_spoils_timing(config)
        if check_estimate(given, collect_only=config.option.collectonly):
            config.stash[ESTIMATE] = given
        if options.asks_for_humaneval(config):
            given["humaneval"] = "true"
        check_tracking(given)
        gate = gating.gate_options(config)
        study = options.build_study(given)
        supervised = take_up()
        if supervised is not None and supervised.file is not None:
            path, resume = supervised.file, True
        else:
            path, resume = options.results_path(given, study, datetime.now().strftime("%Y%m%d-%H%M%S"))
        config.stash[SESSION] = BenchSession(
            study,
            path,
            resume=resume,
            argv=options.without_paths(config.invocation_params.args),
            allow_unsandboxed=given.get("allow_unsandboxed", "false").lower() == "true",
            tracking=given,
            turns=turns_asked_for(),
            quiet_wait=options.quiet_wait(given),
            supervised=supervised,
            shard=read_shard(given),
        )
        gating.register(config, config.stash[SESSION], gate)
    except (StudyError, ValueError) as error:
        raise pytest.UsageError(one_line(error, LONGEST_REFUSAL)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    session = metafunc.config.stash.get(SESSION, None)
    if session is not None and {"engine", "point"} <= set(metafunc.fixturenames):
        items.parametrize(metafunc, session)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    session = config.stash.get(SESSION, None)
    if session is not None:
        _order(config, session, items)


def _order(config: pytest.Config, session: BenchSession, collected: list[pytest.Item]) -> None:
    try:
        left_out = items.collect(session, collected)
    except StudyError as error:
        raise pytest.UsageError(str(error)) from None
    if left_out:
        config.hook.pytest_deselected(items=left_out)


def pytest_runtestloop(session: pytest.Session) -> None:
    bench = session.config.stash.get(SESSION, None)
    planned = [case for item in session.items if (case := items.case_of(item)) is not None]
    if bench is None or not (planned or bench.nothing_left) or session.config.option.collectonly:
        return
    try:
        stack = ExitStack()
        session.config.add_cleanup(stack.close)
        stack.enter_context(stopped_by_termination())
        if bench.nothing_left:
            bench.finish()
            session.config.stash[FINISHED] = True
            return
        bench.begin(planned)
    except (ValueError, CaseFailed) as error:
        raise pytest.UsageError(one_line(error, LONGEST_REFUSAL)) from None
    items.in_order(bench, session.items)
    session.config.stash[BEGUN] = True
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.showfspath = False


def pytest_collection_finish(session: pytest.Session) -> None:
    given = session.config.stash.get(ESTIMATE, None)
    bench = session.config.stash.get(SESSION, None)
    if given is None or bench is None:
        return
    planned = [case for item in session.items if (case := items.case_of(item)) is not None]
    session.config.stash[ESTIMATED] = estimate_lines(bench.study, planned, given)


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine | BaseException]:
    """The loaded pair of this block of cases; what went wrong instead, if it could not be loaded."""
    key: EngineKey = request.param
    bench = request.config.stash[SESSION]
    try:
        loaded: Engine | BaseException = bench.load(key)
    except (Exception, pytest.fail.Exception) as error:  # the latter, no Exception, is how plugins end what takes long
        loaded = without_frames(error)
    yield loaded
    del loaded  # its models stay where the next block shares them, and nowhere else


@pytest.fixture
def point(request: pytest.FixtureRequest) -> Any:
    """How the engine decodes in this case."""
    planned: items.Planned = request.param
    return planned.case.point


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure the block of the item's case, before anything of pytest limits or watches this one test."""
    if item.config.stash.get(BEGUN, False):
        case = items.case_of(item)
        if case is not None and case.experiment != "humaneval":
            again = bool(gating.confirming_note(item))
            try:
                item.config.stash[SESSION].measure_until(case, again=again)
            except RunWriteError as lost:
                _stop(lost)
    return (yield)


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: Any) -> Callable[[], CaseResult]:
    """What was measured of this test's case, in turn with the others; its rounds are told to pytest-benchmark."""
    bench = request.config.stash[SESSION]
    planned = items.planned_of(request.node)
    assert planned is not None
    again = bool(gating.confirming_note(request.node))

    def run() -> CaseResult:
        try:
            result = bench.handed_over(planned.case, again=again)
        except (CaseSkipped, CaseFailed) as over:
            _end(over)
        clock = request.node.get_closest_marker("benchmark").kwargs["timer"]
        seconds = [sample.seconds for sample in result.samples]
        for each in seconds:
            clock.tell(each)
        benchmark.pedantic(lambda: None, rounds=len(seconds), iterations=1, warmup_rounds=0)
        benchmark.extra_info.update(case=result.id, again=again, **result.metrics)
        return result

    return run


@pytest.fixture
def solve(request: pytest.FixtureRequest, engine: Any) -> Callable[[], CaseResult]:
    """Have this test's engine solve HumanEval and write completions, verdicts and the case to the run file."""
    bench = request.config.stash[SESSION]
    case = items.case_of(request.node)
    assert case is not None

    def run() -> CaseResult:
        try:
            if isinstance(engine, BaseException):
                raise failed_to_load(bench, case, engine)
            return solve_problems(bench, case, engine)
        except (CaseSkipped, CaseFailed) as over:
            _end(over)
        except RunWriteError as lost:
            _stop(lost)
        except pytest.fail.Exception as ended:
            ended.pytrace = False
            raise

    return run


def _end(ended: CaseSkipped | CaseFailed) -> NoReturn:
    """End a test as its case ended."""
    if isinstance(ended, CaseSkipped):
        raise pytest.skip.Exception(str(ended)) from None
    raise pytest.fail.Exception(str(ended), pytrace=False) from None  # its words once, without where they were raised


def _stop(lost: RunWriteError) -> NoReturn:
    """End the run: what else it measured would be lost."""
    pytest.exit(one_line(lost, LONGEST_REFUSAL), returncode=pytest.ExitCode.INTERRUPTED)


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """The progress line says how a case went; pytest's dots would only cut through it."""
    drawing = config.stash.get(BEGUN, False) and not config.stash.get(DRAWN, False)
    if drawing and report.when == "call" and config.get_verbosity() <= 0:
        return report.outcome, "", ""
    return None  # pytest's own words again for the summary, which people and CI look through for FAILED


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.stash.get(BEGUN, False):
        bench = session.config.stash[SESSION]
        ran_through = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not session.shouldfail
        try:
            (bench.end if ran_through else bench.abandon)()
        except RunWriteError as lost:
            bench.abandon()
            session.config.stash[LOST] = one_line(lost, LONGEST_REFUSAL)
            session.exitstatus = pytest.ExitCode.INTERRUPTED
        session.config.stash[DRAWN] = True
        bench.heartbeat.tell(OVER)
    elif session.config.stash.get(FINISHED, False) and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.option.collectonly and SESSION in config.stash:
        terminalreporter.write_line(items.HOW_IDS_READ)
    for line in config.stash.get(ESTIMATED, ()):
        terminalreporter.write_line(line)
    if LOST in config.stash:
        terminalreporter.write_line(config.stash[LOST], red=True)
    if config.stash.get(FINISHED, False):
        path = config.stash[SESSION].path
        print_run(read_run(path), terminalreporter)
        terminalreporter.write_line(f"Nothing was left to measure. Run file: {path}")
    if config.stash.get(BEGUN, False):
        bench = config.stash[SESSION]
        run = read_run(bench.path)
        print_run(run, terminalreporter)
        for line in bench.closing_lines():
            terminalreporter.write_line(line)
        if not run.complete:
            terminalreporter.write_line(f"Go on with: {resuming(config.invocation_params.args, bench.path)}")
