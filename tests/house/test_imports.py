"""Start-up (DESIGN.md 2): the package, its facade and its help load no torch, no transformers, no HTTP client."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "httpx2", "matplotlib", "math_verify", "pebble")

SHOW = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
HELP = """
from stepcredit.cli import main
try:
    main([{words}])
except SystemExit as end:
    assert end.code in (0, None), end.code
"""


def loaded(code: str) -> str:
    command = [sys.executable, "-c", f"{code}\n{SHOW}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_import_stepcredit_loads_nothing_heavy() -> None:
    assert loaded("import stepcredit") == "[]"


@pytest.mark.parametrize(
    "words",
    ['"--help"', '"judge", "--help"', '"evaluate", "--help"', '"credit", "--help"', '"demo", "--help"', '"recipes"'],
)
def test_help_and_listings_load_nothing_heavy(words: str) -> None:
    assert loaded(HELP.format(words=words)) == "[]"
