"""The command that runs, and the command that goes on; loads nothing, so that the command line starts quickly."""

import shlex
from contextvars import ContextVar

COMMAND: ContextVar[tuple[str, ...]] = ContextVar("stepcredit_command", default=())
"""Words after `stepcredit` of the command that runs now; empty where a program called the library."""

_LIMITS = {
    "--max-calls": ("--max-calls", "server.max_calls"),
    "--max-cost": ("--max-cost", "server.max_cost"),
    "budget.tokens": ("budget.tokens",),
}
"""Limits by the name that their errors give, and how they are spelt in a command."""


def typed(words: tuple[str, ...]) -> str:
    """The command as a person types it.

    >>> typed(("judge", "my file.jsonl"))
    "stepcredit judge 'my file.jsonl'"
    """
    return shlex.join(("stepcredit", *words))


def raised(words: tuple[str, ...], why: str) -> tuple[str, ...]:
    """The words of a command with the limit doubled that was reached.

    Args:
        words: of the command.
        why: the error's line, which names `--max-calls`, `--max-cost` or `budget.tokens`.

    >>> raised(("run", "--max-cost=2.5", "--max-calls", "9"), "--max-cost 2.5 is reached")
    ('run', '--max-cost=5', '--max-calls', '9')
    >>> raised(("run", "--set", "budget.tokens=500"), "budget.tokens 500 is reached")
    ('run', '--set', 'budget.tokens=1000')
    """
    names = [name for limit, spelt in _LIMITS.items() if limit in why for name in spelt]
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in names:
            found.append(f"{name}={_doubled(value)}")
        else:
            found.append(_doubled(word) if found and found[-1] in names else word)
    return tuple(found)


def _doubled(value: str) -> str:
    try:
        return f"{2 * float(value):.12g}"
    except ValueError:
        return value
