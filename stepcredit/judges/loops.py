"""Texts that ran into their limit while they repeated themselves."""


def is_looping(text: str, *, repeats: int = 4, shortest: int = 200, window: int = 20_000) -> bool:
    """True if the text ends in one passage written `repeats` times or more, `shortest` characters long in all.

    Args:
        text: a critique that was cut: one that ended by itself may list equal verdicts.
        repeats: how often the passage must stand there.
        shortest: characters that the repetitions must fill.
        window: characters of the end that are looked at.

    Source: own (Z function of the reversed text, linear). Differs: thinkprm.md 7 names the detector, not its rule.

    >>> is_looping("Step 1. " + "Wait, let me check again. " * 9), is_looping("Step 1. " * 3 + "Step 2 is wrong.")
    (True, False)
    """
    reverse = text[-window:][::-1]
    size, matched = len(reverse), [0] * len(reverse)
    left = right = 0
    for place in range(1, size):
        run = min(right - place, matched[place - left]) if place < right else 0
        while place + run < size and reverse[run] == reverse[place + run]:
            run += 1
        matched[place] = run
        if place + run > right:
            left, right = place, place + run
        if run + place >= max(repeats * place, shortest):
            return True
    return False
