"""Imports are found without compiling."""

import time

import pytest

from stepcredit.sandbox.routing import IN_WASM, imports_of


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("", set()),
        ("x = 1\nprint('important')", set()),
        ("import numpy as np, math as m", {"numpy", "math"}),
        ("  from sympy.abc import x\n", {"sympy"}),
        ("from scipy import (\n  stats,\n  linalg)", {"scipy"}),
        ("if x: import torch; import os.path", {"torch", "os"}),
        ("import numpy.linalg as la, \\\n  pandas", {"numpy", "pandas"}),
        ("from __future__ import annotations", set()),
        ("# import numpy", set()),
        ("import sympy # import numpy", {"sympy"}),
        ("try:\n\timport numpy\nexcept ImportError: pass", {"numpy"}),
        ("\x00import \ud800numpy\n" + "(" * 10_000, set()),
    ],
)
def test_imports_of(source: str, names: set[str]) -> None:
    assert imports_of(source) == names


def test_ten_megabytes_take_a_moment() -> None:
    began = time.process_time()
    assert imports_of("x = 1 \n" * 1_400_000 + "import numpy") == {"numpy"}
    assert time.process_time() - began < 5


def test_what_the_component_has() -> None:
    assert {"math", "fractions", "decimal", "itertools", "sympy", "mpmath"} <= IN_WASM
    assert not {"numpy", "ctypes", "multiprocessing", "scipy"} & IN_WASM
