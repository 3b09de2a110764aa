"""A plugin of pytest for other projects' own tests: on which loops they run, and against what.

SUITE_LOOPS      where async tests run: names of support/loops.py, separated by commas
SUITE_POLICY     if not empty, ringloop's policy makes all other loops
SUITE_ALIAS      a name that stands for another module from now on: aiofiles=ringloop.aiofiles
SUITE_PATCH      what is patched during all tests, as ringloop.patch() has it
"""

import importlib
import os
import pkgutil
import sys
from typing import Any

import pytest

import ringloop
from support.loops import FACTORIES


def _alias(name: str, target: str) -> None:
    module = importlib.import_module(target)
    sys.modules[name] = module
    for found in pkgutil.walk_packages(module.__path__, f"{target}."):
        sys.modules[name + found.name.removeprefix(target)] = importlib.import_module(found.name)


if "SUITE_ALIAS" in os.environ:
    _alias(*os.environ["SUITE_ALIAS"].split("="))
if "SUITE_PATCH" in os.environ:
    ringloop.patch(os.environ["SUITE_PATCH"])

if os.environ.get("SUITE_POLICY"):
    ringloop.install()


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: Any, item: Any) -> Any:
    """pytest-asyncio's hook."""
    return {name: FACTORIES[name] for name in os.environ["SUITE_LOOPS"].split(",")}
