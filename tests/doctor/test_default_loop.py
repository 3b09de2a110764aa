"""`ringloop.install()`, the policy and `ringloop.run`: who gets which loop; nobody is warned unasked."""

import sys

import pytest

from doctor.command import run_python

WHO_RUNS = """
async def main():
    print(type(asyncio.get_running_loop()).__module__)
asyncio.run(main())
with asyncio.Runner() as runner:
    runner.run(main())
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""

has_policies = pytest.mark.skipif(
    sys.version_info >= (3, 16), reason="Python 3.16 has no event loop policies"
)


def python(code: str) -> str:
    """What the code prints when every warning is an error."""
    child = run_python("-c", code)
    assert (child.stderr, child.returncode) == ("", 0)
    return child.stdout


def test_import_leaves_the_policy_alone() -> None:
    code = """
import asyncio, sys, ringloop
assert getattr(asyncio.events, "_event_loop_policy", None) is None
assert "ringloop.policy" not in sys.modules
"""
    assert python(code) == ""


def test_install() -> None:
    assert python("import asyncio, ringloop; ringloop.install()" + WHO_RUNS) == "ringloop.loop\n" * 3


def test_install_where_policies_are_gone() -> None:
    # As on Python 3.16: the way by the policy is closed.
    code = """
import asyncio, ringloop, ringloop.running
ringloop.running.HAS_POLICIES = False
ringloop.install()
"""
    assert python(code + WHO_RUNS) == "ringloop.loop\n" * 3


@has_policies
def test_the_policy() -> None:
    # From 3.14 on asyncio warns of the public name.
    setter = "set_event_loop_policy" if sys.version_info < (3, 14) else "_set_event_loop_policy"
    code = f"import asyncio, ringloop; asyncio.events.{setter}(ringloop.EventLoopPolicy())"
    assert python(code + WHO_RUNS) == "ringloop.loop\n" * 3


@has_policies
def test_the_policy_is_asyncios_default_in_all_else() -> None:
    code = """
import asyncio, threading, ringloop
policy = ringloop.EventLoopPolicy()
default = asyncio.unix_events._UnixDefaultEventLoopPolicy
assert isinstance(policy, default)
assert {name for name in vars(ringloop.EventLoopPolicy) if not name.startswith("__")} == {"new_event_loop"}
assert ringloop.EventLoopPolicy is type(policy)
loop = policy.new_event_loop()
policy.set_event_loop(loop)
assert policy.get_event_loop() is loop
loop.close()
"""
    assert python(code) == ""


def test_a_python_without_policies_says_so() -> None:
    code = """
import ringloop
ringloop.HAS_POLICIES = False
try:
    ringloop.EventLoopPolicy
except AttributeError as error:
    print(error)
"""
    assert "use ringloop.run(main())" in python(code)


def test_unknown_attributes_are_refused_as_by_any_module() -> None:
    code = """
import ringloop
try:
    ringloop.nothing
except AttributeError as error:
    print(error)
"""
    assert python(code) == "module 'ringloop' has no attribute 'nothing'\n"


def test_all_names_exist() -> None:
    code = """
from ringloop import *
import ringloop
assert set(ringloop.__all__) <= set(globals())
assert set(ringloop.__all__) <= set(dir(ringloop))
"""
    assert python(code) == ""


def test_run_returns_the_result() -> None:
    code = """
import asyncio, ringloop
async def main():
    return type(asyncio.get_running_loop()).__module__, asyncio.get_running_loop().get_debug()
print(ringloop.run(main()), ringloop.run(main(), debug=True))
print(ringloop.run(main(), loop_factory=asyncio.SelectorEventLoop)[0])
"""
    assert python(code) == "('ringloop.loop', False) ('ringloop.loop', True)\nasyncio.unix_events\n"


def test_run_refuses_to_nest() -> None:
    code = """
import asyncio, ringloop
async def nothing():
    pass
async def main():
    coroutine = nothing()
    try:
        ringloop.run(coroutine)
    except RuntimeError as error:
        print(error)
    coroutine.close()
asyncio.run(main())
"""
    assert python(code) == "ringloop.run() cannot be called from a running event loop\n"
