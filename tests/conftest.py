"""What all tests share: a failure keeps its test's name, and tests that were asked for by name are not skipped."""

import os
import signal
import traceback

import pytest


def pytest_configure(config):
    """Free the tests, and what they start, from what started them.

    A shell's `&` has SIGINT ignored. The `make` of a test that runs under `make test` takes itself for a part of that
    one: it prints the folders that it enters and leaves, and takes over its options.
    """
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--needed",
        action="store_true",
        help="end with an error if tests were skipped for what is not installed, or none ran",
    )


def lacking(config) -> list[str]:
    """With `--needed`: why tests did not run that had to; nothing in a worker, which does not see all of them."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not config.getoption("--needed") or config.option.collectonly:
        return []
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in reporter.getreports("skipped")}
    if not any(reporter.getreports(outcome) for outcome in ("passed", "failed", "error")):
        return sorted(reasons) or ["no test ran"]
    return sorted(reason for reason in reasons if "not installed" in reason)


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.OK and lacking(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)  # below all that pytest prints
def pytest_terminal_summary(terminalreporter, config):
    yield
    for reason in lacking(config):
        terminalreporter.line(f"error: these tests were asked for by name: {reason}", red=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Report a failure by its plain traceback where pytest cannot format it.

    The time limit's exception can end a frame between two lines, where a traceback has no line number. pytest 9.2
    fails on such an entry; with `filterwarnings = error` that ends the whole worker, and no test is named.
    """
    try:
        return (yield)
    except (Exception, pytest.fail.Exception) as problem:
        text = "".join(traceback.format_exception(call.excinfo.value)) if call.excinfo else ""
        return pytest.TestReport(
            item.nodeid,
            item.location,
            dict.fromkeys(item.keywords, 1),
            "failed",
            f"{text}\npytest could not format this failure: {problem!r}",
            call.when,
            duration=call.duration,
            start=call.start,
            stop=call.stop,
        )
