"""Where sentences start in text with mathematics: no cut inside formulas, decimals, abbreviations or list numbers."""

import re
from bisect import bisect_right

_DELIMITER = re.compile(
    r"(?P<blank>\n[^\S\n]*\n)|(?P<escaped>\\\\|\\\$)|\\(?P<open>[(\[])|\\(?P<close>[)\]])"
    r"|\\(?P<begin>begin)\{(?P<name>[A-Za-z]+\*?)\}|\\(?P<end>end)\{(?P<closed>[A-Za-z]+\*?)\}"
    r"|(?P<display>\$\$)|(?P<dollar>\$)|(?P<line>\n)"
)
_CLOSING = {"(": ")", "[": "]"}
_END = re.compile(r"[.!?][\"'”’)\]*_]*(?P<gap>\s+)|[。！？](?P<wide>\s*)|(?P<line>\n\s*)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|resp|approx|w\.r\.t|viz|al|Mr|Mrs|Ms|Dr|Prof|St|Fig|Figs|Eq|Eqs|Eqn|Sec|Thm|Lem|Prop|Def|No|Nos|Ex|Ch|pp?))$"
)
_LIST_NUMBER = re.compile(r"(?:^|\n)[ \t>*#_-]*(?:[Ss]tep|[Cc]ase|[Pp]art)?[ \t]*\(?(?:\d+|[A-Za-z])$")
_LOOK_BACK = 24


def sentence_starts(text: str) -> list[int]:
    r"""Characters at which a new sentence starts, rising, without 0.

    A sentence ends at `.`, `!` or `?` before white space and no lower-case letter, at a wide full stop, and at a line
    end. Never inside `$..$`, `$$..$$`, `\(..\)`, `\[..\]` or an environment; a formula that is not closed before
    the next blank line does not count as one. The space before a word goes with the word, as in tokenizers; line
    ends go with the line they end.

    Args:
        text: any text.

    Returns:
        Cut points for the characters of `text`.

    Source: VinePPO cuts at sentences outside formulas (arXiv:2410.01679). Differs: rules written anew; dollar signs
    of prices are told from formulas by the space or digit beside them.

    >>> text = "So $x = 3. 5$. Then y = 2.5, i.e. Five. Done"
    >>> [text[a:b] for a, b in zip([0, *sentence_starts(text)], [*sentence_starts(text), None])]
    ['So $x = 3. 5$.', ' Then y = 2.5, i.e. Five.', ' Done']
    """
    ranges = formulas(text)
    starts: list[int] = []
    for match in _END.finditer(text):
        if in_formula(ranges, match.start()):
            continue
        cut = _cut(text, match)
        if cut is not None and cut < len(text) and (not starts or cut > starts[-1]):
            starts.append(cut)
    return starts


def formulas(text: str) -> list[tuple[int, int]]:
    r"""Half-open character ranges of formulas, rising and apart from one another.

    Source: own. Differs: none.

    >>> formulas("cost $5, so $x+1$ and \\(y\\)")
    [(12, 17), (22, 27)]
    """
    found: list[tuple[int, int]] = []
    opener, start = "", 0
    for match in _DELIMITER.finditer(text):
        kind, word = _kind(match, text)
        if kind == "blank" or (kind == "line" and opener == "$"):
            opener = ""
        elif kind == "close" and opener == word:
            found.append((start, match.end()))
            opener = ""
        elif kind == "toggle" and opener == word:
            if word == "$$" or _closes(text, match.start()):
                found.append((start, match.end()))
                opener = ""
            elif _opens(text, match.end()):
                start = match.start()
        elif kind in ("open", "toggle") and (opener in ("", "$") or opener == word) and _may_open(text, match, word):
            opener, start = word, match.start()
    return found


def in_formula(ranges: list[tuple[int, int]], at: int) -> bool:
    """True if character `at` lies in one of the rising ranges that `formulas` gave.

    >>> in_formula([(12, 17)], 16), in_formula([(12, 17)], 17)
    (True, False)
    """
    index = bisect_right(ranges, at, key=lambda span: span[0]) - 1
    return index >= 0 and at < ranges[index][1]


def _kind(match: re.Match[str], text: str) -> tuple[str, str]:
    """What a delimiter does (blank, line, open, close, toggle, none) and the opener it concerns, by its closer."""
    group = match.lastgroup or ""
    if group in ("blank", "line"):
        return group, ""
    if group == "open":
        return "open", _CLOSING[match["open"]]
    if group == "close":
        return "close", match["close"]
    if match["begin"] is not None:
        return "open", "\\" + match["name"]
    if match["end"] is not None:
        return "close", "\\" + match["closed"]
    return ("toggle", text[match.start() : match.end()]) if group in ("display", "dollar") else ("none", "")


def _may_open(text: str, match: re.Match[str], word: str) -> bool:
    return word != "$" or _opens(text, match.end())


def _opens(text: str, after: int) -> bool:
    return after < len(text) and not text[after].isspace()


def _closes(text: str, at: int) -> bool:
    return not text[at - 1].isspace() and not text[at + 1 : at + 2].isdigit()


def _cut(text: str, match: re.Match[str]) -> int | None:
    """Where the next sentence starts after a possible end, `None` if it is no end."""
    if match["line"] is not None:
        return text.rfind("\n", match.start(), match.end()) + 1
    if match["wide"] is not None:
        return _after_gap(text, match.start("wide"), match.end())
    if text[match.end() : match.end() + 1].islower() and "\n" not in match["gap"]:
        return None
    if text[match.start()] == "." and "\n" not in match["gap"]:
        before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
        if _ABBREVIATION.search(before) or _LIST_NUMBER.search(before, 1 if match.start() > _LOOK_BACK else 0):
            return None
    return _after_gap(text, match.start("gap"), match.end())


def _after_gap(text: str, start: int, end: int) -> int:
    line = text.rfind("\n", start, end)
    return line + 1 if line >= 0 else max(start, end - 1)
