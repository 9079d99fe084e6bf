"""The filter of system calls."""

import re
import struct
from pathlib import Path

import pytest

from stepcredit.core.errors import MachineError
from stepcredit.sandbox import seccomp

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def decide(code: bytes, *, number: int, machine: int) -> int:
    """What the kernel's machine does with a call."""
    place, held = 0, 0
    while True:
        kind, yes, no, value = struct.unpack_from("HBBI", code, place * 8)
        place += 1
        if kind == 0x20:
            held = {0: number, 4: machine}[value]
        elif kind == 0x06:
            return value
        else:
            place += yes if (held == value if kind == 0x15 else held >= value) else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_the_filters_decide(machine: str) -> None:
    numbers = {"x86_64": (101, 56, 59, 41, 0, 1), "aarch64": (117, 220, 221, 198, 63, 64)}[machine]
    program, server = seccomp.program_filter(machine), seccomp.server_filter(machine)
    audit = AUDIT[machine]
    found = [decide(program, number=number, machine=audit) for number in numbers]
    assert found == [EPERM, EPERM, EPERM, EPERM, ALLOW, ALLOW]
    assert [decide(server, number=number, machine=audit) for number in numbers[:2]] == [EPERM, ALLOW]
    assert decide(program, number=435, machine=audit) == ENOSYS
    assert decide(program, number=0, machine=0x40000003) == KILL
    if machine == "x86_64":
        assert decide(program, number=0x40000000 + 59, machine=audit) == ENOSYS


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(MachineError, match="no system-call filter for riscv64; engine 'wasm' needs none"):
        seccomp.program_filter("riscv64")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    if not HEADERS[machine].is_file():
        pytest.skip("needs the kernel's headers")
    text = HEADERS[machine].read_text(encoding="utf-8")
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    column = list(HEADERS).index(machine)
    ours = {name: pair[column] for name, pair in {**seccomp._SURFACE, **seccomp._PROGRAM}.items()}
    assert {name: known.get(name, -1) for name in ours} == ours
