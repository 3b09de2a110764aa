"""The servers, and the rounds of load tests."""

import faulthandler
from collections.abc import Iterator

import pytest

from integration import servers
from integration.load import Rounds

ROUND_SECONDS_MAX = 60.0


def _share_seconds(session: pytest.Session) -> float:
    """How long each load test goes on."""
    loads = sum("rounds" in getattr(item, "fixturenames", ()) for item in session.items)
    return 60 * float(session.config.getoption("integration_minutes")) / max(loads, 1)


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        if "rounds" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(_share_seconds(session) + ROUND_SECONDS_MAX))


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Iterator[Rounds]:
    """For load tests: `await rounds.run(one_round)`."""
    seconds = _share_seconds(request.session)
    if seconds:
        faulthandler.cancel_dump_traceback_later()  # which has no notion of tests that are to take long
    rounds = Rounds(seconds)
    yield rounds
    request.node.user_properties.append(("rounds", rounds.done))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How much was done in the time given."""
    if config.getoption("integration_minutes"):
        for report in terminalreporter.getreports(""):
            for name, value in report.user_properties:
                if name == "rounds":
                    terminalreporter.write_line(f"{value:6} rounds: {report.nodeid}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.Server]:
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[servers.Server]:
    with servers.redis() as server:
        yield server
