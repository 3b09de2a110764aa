"""The driver that a loop takes: by argument, by RINGLOOP_DRIVER, by what works."""

import asyncio
from contextlib import closing

import pytest

import ringloop
from support.marks import needs_io_uring


@pytest.fixture(params=["argument", "environment"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """`ask(name)` makes a loop with the driver `name`."""

    def by_environment(name: str) -> ringloop.Loop:
        monkeypatch.setenv("RINGLOOP_DRIVER", name)
        return ringloop.new_event_loop()

    return ringloop.new_event_loop if request.param == "argument" else by_environment


@pytest.mark.parametrize("name", [pytest.param("io_uring", marks=needs_io_uring), "epoll"])
def test_the_driver_that_was_asked_for(ask, name: str) -> None:
    with closing(ask(name)) as loop:
        assert loop.driver == name
        assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"


def test_another_name_is_an_error(ask) -> None:
    with pytest.raises(ValueError, match="must be 'io_uring' or 'epoll', not 'kqueue'"):
        ask("kqueue")


@needs_io_uring
def test_the_argument_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOOP_DRIVER", "epoll")
    with closing(ringloop.new_event_loop("io_uring")) as loop:
        assert loop.driver == "io_uring"


@needs_io_uring
def test_an_empty_variable_leaves_the_choice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RINGLOOP_DRIVER", "")
    with closing(ringloop.new_event_loop()) as loop:
        assert loop.driver == "io_uring"
    assert not caplog.records
