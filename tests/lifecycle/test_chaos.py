"""Whatever is cancelled or closed, at whatever moment: no crash, no hang, no noise, and nothing is left open.

`--chaos-seeds N` plays N seeds over each driver instead of a few; `lifecycle/chaos/` says what is played.
"""

import pytest

from support.child import run_child
from support.loops import DRIVERS
from support.marks import ringloop_only

#: Of a child, on a machine with far too much to do; alone it takes two.
PLAY_SECONDS_MAX = 50.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("chaos_seeds")))


@ringloop_only
def test_random_work_is_given_up_and_leaves_nothing(ringloop_driver: str, seed: int) -> None:
    name = next(name for name, driver in DRIVERS.items() if driver == ringloop_driver)
    code = f"from lifecycle.chaos.play import play\nprint(play({name!r}, {seed}))"
    child = run_child(code, loop_name=name, timeout=PLAY_SECONDS_MAX)
    assert child.stderr == "", child.explain()
    assert int(child.stdout) > 0
