"""A program of the battery: its text with places to fill in, and how one tells that it got somewhere."""

from dataclasses import dataclass
from typing import final

ESCAPED = "ESCAPED"
"""What a hostile program prints when it got what it wanted; texts break the word up where they must not print it."""


@final
@dataclass(frozen=True)
class Program:
    """One program.

    Args:
        number: as in reliability.md A5; those of its 'still to add' list go on from 51.
        name: what it does.
        source: its text; `@SECRET@`, `@TARGET@`, `@PORT@`, `@SOCKET@` and `@PARENT@` stand for a file that it must not
            read, one that it must not write, a listener on this host, an abstract socket, and the parent's process id.
        expected: output of a benign program, empty for a hostile one.
        unsupported: engines that rightly lack what a benign program needs.
        quick: False if only a time limit ends it.
        in_short: True if it is one of the twelve that `doctor` runs.
    """

    number: int
    name: str
    source: str
    expected: str = ""
    unsupported: tuple[str, ...] = ()
    quick: bool = True
    in_short: bool = False

    @property
    def hostile(self) -> bool:
        """True if it is to be contained, False if it must work."""
        return not self.expected


NEXT = Program(
    0,
    "the next benign program",
    """
import builtins, math, sympy
x = sympy.Symbol("x")
print(sum(range(101)), math.sqrt(16), len([1, 2]), sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2))
""",
    "5050 4.0 2 1\n",
)
"""Run after each program: nothing of it may be left."""

BENIGN = (
    Program(-1, "arithmetic", "print(sum(k * k for k in range(10)))", "285\n", in_short=True),
    Program(
        -2,
        "sympy",
        "import sympy\nx = sympy.Symbol('x')\nprint(sympy.solve(x**2 - 3 * x + 2, x))",
        "[1, 2]\n",
        in_short=True,
    ),
    Program(-3, "numpy", "import numpy\nprint(int(numpy.arange(5).sum()))", "10\n", ("wasm",), in_short=True),
    Program(
        -4,
        "scratch file",
        "open('kept.txt', 'w').write('seven')\nprint(open('kept.txt').read())",
        "seven\n",
        ("wasm",),
        in_short=True,
    ),
)
