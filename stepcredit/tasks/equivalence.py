"""Compares two answers as text, choice letter or number; what it cannot decide is left to math-verify."""

import re
from fractions import Fraction

_WRAPPERS = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox|operatorname)\s*\{([^{}]*)\}")
_DROPPED = re.compile(
    r"(\\\\)|\\(?:left|right|displaystyle|limits)(?![A-Za-z])|\\[!,;:$]|\\(?=\s)"
    r"|\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])|[°$]|\\[()\[\]]"
)
_THOUSANDS = re.compile(r"(?<![\d,(\[{.])\d{1,3}(?:,\d{3})+(?![\d,)\]}])")
_ROW_SPACE = re.compile(r"\\\\\s*\[-?[\d.]+\s*(?:pt|em|ex|mm|cm)\]")
_SEPARATORS = re.compile(r"\\text\s*\{\s*(?:and|or),?\s*\}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(\d|\{[^{}]*\})\s*(\d|\{[^{}]*\})")
_SHORT_ROOT = re.compile(r"\\sqrt\s*(\d)")
_UNIT = re.compile(r"(?<=[\d}])\s+(?:(?:[A-Za-z]{2,}|[mghs])(?:\^\{?[23]\}?)?\.?(?:\s|$))+$")
_NAME = re.compile(r"[A-Za-z](?:\([a-z]\))?=(?!.*=)")
_FRACTION = re.compile(r"([-+]?)\\frac\{([-+]?\d+)\}\{([-+]?\d+)\}|([-+]?\d+)/(\d+)")
_DECIMAL = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
_CHOICE = re.compile(
    r"(?:(?:choice|option)[\s_\\]*)?\(?([A-J])\)?(?:(?:[.:)]|\s-)(?:\s.*)?)?", re.DOTALL | re.IGNORECASE
)
_PROSE = re.compile(r"[A-Za-z]{2,}.*\s.*[A-Za-z]{2,}|[A-Za-z]{2,}\s", re.DOTALL)
_INSIDE = re.compile(r"-?(?:\d+(?:\.\d+)?(?:/\d+)?|\.\d+)")
_BASED = re.compile(r"([0-9A-Za-z]+)_(\d{1,4})")
_WORDS = re.compile(r"(?=.*[A-Za-z]{4})[A-Za-z]{2,}(?:[ '-][A-Za-z]+)*")
_LONGEST = 4000
"""Characters of a number whose value is taken: Python refuses to read numbers of more than 4,300 digits."""

_COUNTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def tidy(answer: str) -> str:
    r"""The answer without what only shows: wrappers, sizes, thin spaces, currency, degrees, thousands marks, units.

    >>> tidy(r"$\left(3,\ \dfrac12\right)$"), tidy(r"1,000\text{ cm}^2"), tidy("x = 5.")
    ('(3, \\frac{1}{2})', '1000', 'x = 5')
    """
    text = answer.strip().strip("*").strip().replace("\u2212", "-")
    text = re.sub(r"\\([dtc])frac", r"\\frac", _ROW_SPACE.sub(r"\\\\", text))
    text = _WRAPPERS.sub(r" \1 ", _SEPARATORS.sub(",", text))
    text = re.sub(r"(?<=\d)(?:\{,\}|,\\!)\s*(?=\d{3})", "", text)
    text = _DROPPED.sub(r"\1", text).replace("~", " ")
    text = re.sub(r"\s+\^", "^", text.strip().rstrip(".,;").strip())
    text = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    text = _SHORT_ROOT.sub(r"\\sqrt{\1}", _UNIT.sub("", text))
    return _SHORT_FRACTION.sub(lambda match: "\\frac" + "".join(f"{{{g.strip('{}')}}}" for g in match.groups()), text)


def normalise(answer: str) -> str:
    r"""The tidy answer without spaces (unless it is plain words) and without braces around one sign or number.

    >>> normalise(r"x^{2} + \frac12"), normalise("Sunday morning")
    ('x^2+\\frac{1}{2}', 'Sunday morning')
    """
    text = tidy(answer).replace("\\%", "%")
    if _WORDS.fullmatch(text):
        return text
    text = re.sub(r"([_^])\{(\w|(?<=_\{)\d+)\}", r"\1\2", text)
    return re.sub(r"\s+", "", text)


def number(text: str) -> Fraction | None:
    r"""Exact value of a normalised whole number, decimal or fraction of whole numbers; `None` for anything else.

    Numbers of more than 4,000 characters have no value here either.

    >>> number("-3.50"), number(r"\frac{1}{3}"), number("1/0") is None, number("2x") is None
    (Fraction(-7, 2), Fraction(1, 3), True, True)
    """
    if len(text) > _LONGEST:
        return None
    if _DECIMAL.fullmatch(text):
        return Fraction(text)
    fraction = _FRACTION.fullmatch(text)
    if fraction is None:
        return None
    sign, over, under, left, right = fraction.groups()
    top, bottom = (int(over), int(under)) if over else (int(left), int(right))
    return Fraction(-top if sign == "-" else top, bottom) if bottom else None


def choice(text: str) -> str | None:
    r"""The choice letter that an answer consists of, in upper case, `None` if it is no choice.

    >>> choice(r"\text{(B)}"), choice("C: the sun"), choice("12")
    ('B', 'C', None)
    """
    match = _CHOICE.fullmatch(_DROPPED.sub(r"\1", _WRAPPERS.sub(r"\1", text)).strip().strip("*").rstrip("."))
    return match[1].upper() if match else None


def is_choice(reference: str) -> bool:
    """True if the reference is one choice letter, bare or in parentheses.

    >>> is_choice("(D)"), is_choice("x")
    (True, False)
    """
    letter = choice(reference)
    return letter is not None and letter in reference and len(reference.strip("() .")) == 1


def same(reference: str, answer: str) -> bool | None:
    r"""Whether the answer equals the reference, `None` if text and numbers cannot decide.

    The order: choice letter, equal text, equal number, numbers in one base, a number in a sentence, plain words. A
    reference that is a choice letter needs a letter. A percent sign on one side only may mean the number or a
    hundredth of it. Numbers too long to be read are compared digit by digit.

    >>> same("1/2", r"\frac{1}{2}"), same("7", "8"), same("B", "(B)"), same("x+1", "1+x")
    (True, False, True, None)
    >>> same("11", "Tom can buy 11 more CDs"), same("3", "three boxes")
    (True, True)
    """
    if is_choice(reference):
        return choice(answer) == choice(reference)
    wanted, got = normalise(reference), normalise(answer)
    if ("=" in wanted) != ("=" in got):
        wanted, got = _NAME.sub("", wanted), _NAME.sub("", got)
    if wanted == got:
        return True
    for decide in (_same_number, _same_based):
        verdict = decide(wanted, got)
        if verdict is not None:
            return verdict
    return _same_words(wanted, tidy(answer))


def _same_number(wanted: str, got: str) -> bool | None:
    if max(len(wanted), len(got)) > _LONGEST:
        return _same_digits(wanted, got)
    left, right = number(wanted.rstrip("%")), number(got.rstrip("%"))
    if left is None or right is None:
        return None
    if left == right:
        return True
    if ("%" in wanted) != ("%" in got):
        return left == right / 100 if "%" in got else left / 100 == right
    near = abs(left - right) < Fraction(1, 10**5) and "." in wanted + got
    return None if near else False


def _same_digits(wanted: str, got: str) -> bool | None:
    """Decimals as texts: whole numbers by their digits; others only where their sizes differ by far."""
    sides = [side.rstrip("%") for side in (wanted, got)]
    if not all(_DECIMAL.fullmatch(side) for side in sides):
        return None
    whole = [side.lstrip("+-").partition(".")[0].lstrip("0") for side in sides]
    if abs(len(whole[0]) - len(whole[1])) > 4:  # more than a percent sign and rounding can make
        return False
    if "." in wanted + got or "%" in wanted + got:
        return None
    return whole[0] == whole[1] and wanted.startswith("-") == got.startswith("-")


def _same_based(wanted: str, got: str) -> bool | None:
    """Whole numbers with a base written under them; a missing base is taken from the other side."""
    left, right = _BASED.fullmatch(wanted), _BASED.fullmatch(got)
    if left and right:
        return _value(left[1], int(left[2])) == _value(right[1], int(right[2]))
    if left and got.isalnum():
        return left[1] == got
    if right and wanted.isalnum():
        return right[1] == wanted
    return None


def _value(digits: str, base: int) -> int | str:
    try:
        return int(digits, base)
    except ValueError:
        return f"{digits}_{base}"


def _same_words(wanted: str, got: str) -> bool | None:
    """A number against a sentence (its last number, else the number it opens with in words), or plain words."""
    value = number(wanted)
    if value is not None and "\\" not in got and _PROSE.search(got):
        numbers = _INSIDE.findall(got)
        first = got.partition(" ")[0].lower()
        if numbers:
            return number(numbers[-1]) == value
        return _COUNTS.index(first) == value if first in _COUNTS else None
    if _WORDS.fullmatch(wanted) and _WORDS.fullmatch(got):
        return wanted.lower().split() == got.lower().split()
    return None
