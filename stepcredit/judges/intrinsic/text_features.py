"""What two pieces of written reasoning can have in common: numbers, expressions, content words, and their weights."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import final

_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]{1,40})\}\{([^{}]{1,40})\}")
_LATEX = re.compile(r"\\(?:left|right|text|mathrm|quad|,|;|!|\(|\)|\[|\])|[$*`]{2}|\$")
_TIMES = re.compile(r"\\(?:cdot|times|ast)\b|[×·∗]")
_DIVIDED = re.compile(r"\\div\b|÷")
_TERM = r"\(*(?:\d+(?:,\d{3})*(?:\.\d+)?|[A-Za-z]{1,2}(?:_\{?\w{1,4}\}?)?)(?:\^\{?[\w+\-]{1,8}\}?)?%?\)*"
_EXPRESSION = re.compile(rf"(?<![\w.]){_TERM}(?:\s*[-+*/^−]\s*{_TERM})*(?:\s*=\s*{_TERM}(?:\s*[-+*/^−]\s*{_TERM})*)*")
_OPERATOR = re.compile(r"[-+*/^=]")
_WORD = re.compile(r"[A-Za-z]{5,}")
_FILLER = frozenset(
    """
    about above actually after again alternatively another answer because before being below calculate check
    correct could doing double equal equals every exactly first given gives going hence however indeed looks makes
    maybe means might number other perhaps problem really right second seems should since something still supposed
    thats their there therefore these thing think third those though through times total under until using value
    where whether which while would wrong
    """.split()  # noqa: SIM905 -- a list of words reads best as words
)
_NUMBER_WEIGHT, _EXPRESSION_WEIGHT, _WORD_WEIGHT = 1.0, 1.5, 0.4


@final
@dataclass(frozen=True)
class Features:
    """What a text says that another can repeat.

    Args:
        weights: items (numbers, expressions without blanks, lower-case words) and how much each says by its kind.
        numbers: the numbers among them.
        equations: left side and right side of each equation that gives a number.
    """

    weights: Mapping[str, float]
    numbers: frozenset[str]
    equations: frozenset[tuple[str, str]]


@lru_cache(maxsize=8192)
def features(text: str) -> Features:
    r"""Features of a text.

    >>> found = features("So 12 × 1,000 = 12000.0 apples")
    >>> sorted(found.numbers), found.equations
    (['1000', '12', '12000'], frozenset({('12*1000', '12000')}))
    >>> sorted(features(r"\\frac{3}{4} of the apples").weights)
    ['3', '3/4', '4', 'apples']
    """
    plain = _plain(text)
    weights: dict[str, float] = dict.fromkeys(map(str.lower, _WORD.findall(text)), _WORD_WEIGHT)
    for word in _FILLER.intersection(weights):
        del weights[word]
    numbers = frozenset(map(_number, _NUMBER.findall(plain)))
    weights.update(dict.fromkeys(numbers, _NUMBER_WEIGHT))
    equations: set[tuple[str, str]] = set()
    for chunk in _EXPRESSION.findall(plain):
        if _OPERATOR.search(chunk) is None:
            continue
        sides = [_side(side) for side in chunk.split("=")]
        for side in sides:
            if _OPERATOR.search(side[1:]) is not None:
                weights[side] = _EXPRESSION_WEIGHT
        result = _number(sides[-1])
        if len(sides) > 1 and result in numbers:
            equations.update((side, result) for side in sides[:-1] if side not in numbers)
    return Features(weights, numbers, frozenset(equations))


def concludes_alike(before: str, after: str) -> bool:
    """True if both texts end on the same number: a doubt that comes back to what it doubted.

    >>> concludes_alike("so the total is 1,200.", "10 times 120, yes 1200"), concludes_alike("so 3", "so 4")
    (True, False)
    """
    first, second = _NUMBER.findall(before), _NUMBER.findall(after)
    return bool(first and second) and _number(first[-1]) == _number(second[-1])


def rarity(texts: Sequence[Features]) -> dict[str, float]:
    """Weight of each item over a set of texts: its kind's weight times ln((n + 1) / texts that hold it).

    >>> rarity([features("7 apples"), features("7 pears")])["7"] < rarity([features("7 apples")])["7"]
    True
    """
    held: Counter[str] = Counter()
    kinds: dict[str, float] = {}
    for text in texts:
        held.update(text.weights.keys())
        kinds.update(text.weights)
    return {item: kinds[item] * math.log((len(texts) + 1) / count) for item, count in held.items()}


def conflicts(earlier: Features, later: Features) -> int:
    """Equations of the later text whose left side the earlier one has too, but never with that result."""
    sides = {side for side, _ in earlier.equations}
    return sum(side in sides and (side, result) not in earlier.equations for side, result in later.equations)


def overlap(items: Iterable[str], other: Features, weights: Mapping[str, float]) -> float:
    """Sum of the weights of the items that the other text holds too."""
    return sum(weights.get(item, 0.0) for item in items if item in other.weights)


def _plain(text: str) -> str:
    text = _FRACTION.sub(r"\1/\2", text)
    text = _TIMES.sub("*", _LATEX.sub(" ", text))
    return _DIVIDED.sub("/", text).replace("−", "-")


def _number(text: str) -> str:
    text = text.replace(",", "").strip("()%")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _side(text: str) -> str:
    return "".join(text.split()).replace(",", "").strip("()")
