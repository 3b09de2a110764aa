"""The driver that a loop takes: by argument, by RINGLOOP_DRIVER, by what works."""

import pytest

import ringloop


@pytest.fixture(params=["argument", "environment"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """`ask(name)` makes a loop with the driver `name`."""

    def by_environment(name: str) -> ringloop.Loop:
        monkeypatch.setenv("RINGLOOP_DRIVER", name)
        return ringloop.new_event_loop()

    return ringloop.new_event_loop if request.param == "argument" else by_environment


def test_io_uring(ask) -> None:
    ask("io_uring").close()


def test_epoll_is_not_built_yet(ask) -> None:
    with pytest.raises(NotImplementedError, match="the epoll driver is not built yet"):
        ask("epoll")


def test_another_name_is_an_error(ask) -> None:
    with pytest.raises(ValueError, match="must be 'io_uring' or 'epoll', not 'kqueue'"):
        ask("kqueue")


def test_the_argument_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOOP_DRIVER", "epoll")
    ringloop.new_event_loop("io_uring").close()


def test_an_empty_variable_leaves_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOOP_DRIVER", "")
    ringloop.new_event_loop().close()
