"""The names of io_uring's numbers, compared with the kernel's header as far as the installed one goes."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from ringloop import kernel_names
from ringloop.kernel_names import Meaning, meanings, operation_names

HEADER = Path("/usr/include/linux/io_uring.h")
DRIVER_HEADER = Path(__file__).parents[2] / "ringloop/native/driver.h"

with_header = pytest.mark.skipif(not HEADER.exists(), reason="the kernel's headers are not installed")


@with_header
def test_operations() -> None:
    enumerators = re.search(r"enum io_uring_op \{(.*?)\};", HEADER.read_text(), re.DOTALL)
    assert enumerators
    names = re.findall(r"^\s*IORING_OP_(\w+)", enumerators[1], re.MULTILINE)
    assert names.pop() == "LAST"
    known = min(len(names), len(kernel_names.OPERATIONS))
    assert names[:known] == list(kernel_names.OPERATIONS[:known])


@with_header
@pytest.mark.parametrize(
    ("prefix", "table"), [("IORING_SETUP", kernel_names.SETUP_FLAGS), ("IORING_FEAT", kernel_names.FEATURES)]
)
def test_bits(prefix: str, table: Mapping[int, Meaning]) -> None:
    defined = re.findall(rf"#define {prefix}_(\w+)\s+\(1U << (\d+)\)", HEADER.read_text())
    assert defined
    for name, bit in defined:
        if int(bit) in table:
            assert table[int(bit)].name == name


def test_capabilities_are_those_of_the_driver() -> None:
    defined = re.findall(r"RL_CAN_\w+ = 1 << (\d+)", DRIVER_HEADER.read_text())
    assert [int(bit) for bit in defined] == list(kernel_names.CAPABILITIES)


def test_what_is_too_new_is_told_by_number() -> None:
    assert operation_names([0, 200]) == ["NOP", "operation 200"]
    assert [bit.name for bit in meanings(1 << 8 | 1 << 31, kernel_names.FEATURES)] == ["EXT_ARG", "bit 31"]
