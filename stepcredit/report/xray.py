"""The credit X-ray as it is drawn: for each solution bands of colour along its tokens, then its steps, row by row."""

from dataclasses import dataclass
from itertools import groupby
from typing import final

from stepcredit.report.views import RolloutView, StepView, XrayRow, XrayView


@final
@dataclass(frozen=True)
class ShownPiece:
    """A run of tokens in one colour.

    Args:
        text: of the tokens.
        tone: `pos`, `neg`, `zero`, or `none` where the rule gave no credit.
        strength: of the colour, in per cent.
        says: the advantage in words.
    """

    text: str
    tone: str
    strength: float
    says: str


@final
@dataclass(frozen=True)
class ShownBand:
    """One run of tokens in a row's band.

    Args:
        left: where it begins, in thousandths of the solution.
        width: how far it goes.
        tone: as `ShownPiece`.
        strength: as `ShownPiece`.
    """

    left: float
    width: float
    tone: str
    strength: float


@final
@dataclass(frozen=True)
class ShownStep:
    """One step under every rule.

    Args:
        mark: its truth: `right`, `wrong`, or empty.
        rows: [R] its pieces under each rule.
        means: [R] mean advantage of its tokens, in words.
    """

    mark: str
    rows: tuple[tuple[ShownPiece, ...], ...]
    means: tuple[str, ...]


@final
@dataclass(frozen=True)
class ShownXray:
    """One solution under every rule.

    Args:
        view: the solution.
        bands: [R] the band of each rule.
        borders: where steps begin, in thousandths.
        steps: its steps.
    """

    view: RolloutView
    bands: tuple[tuple[ShownBand, ...], ...]
    borders: tuple[float, ...]
    steps: tuple[ShownStep, ...]


def shown_xray(xray: XrayView) -> tuple[ShownXray, ...]:
    """The solutions as both halves of the drawing show them."""
    truths = xray.truths or tuple((None,) * len(view.steps) for view in xray.solutions)
    return tuple(_solution(view, xray.rows, truth) for view, truth in zip(xray.solutions, truths, strict=True))


def _solution(view: RolloutView, rows: tuple[XrayRow, ...], truth: tuple[bool | None, ...]) -> ShownXray:
    pieces = [piece for step in view.steps for piece in step.pieces]
    total = sum(piece.tokens for piece in pieces) or 1
    bands: list[tuple[ShownBand, ...]] = []
    for number, row in enumerate(rows):
        at, found = 0, list[ShownBand]()
        for value, run in groupby(pieces, key=lambda piece, number=number: piece.advantages[number]):
            width = sum(piece.tokens for piece in run)
            tone, strength = _colour(value, row)
            found.append(ShownBand(round(1000 * at / total, 2), round(1000 * width / total, 2), tone, strength))
            at += width
        bands.append(tuple(found))
    starts, at = list[float](), 0
    for step in view.steps:
        starts.append(round(1000 * at / total, 2))
        at += sum(piece.tokens for piece in step.pieces)
    steps = tuple(_step(step, rows, known) for step, known in zip(view.steps, truth, strict=True))
    return ShownXray(view, tuple(bands), tuple(starts), steps)


def _step(step: StepView, rows: tuple[XrayRow, ...], truth: bool | None) -> ShownStep:  # noqa: FBT001 -- private
    texts = _endings([piece.text for piece in step.pieces])
    shown: list[tuple[ShownPiece, ...]] = []
    means: list[str] = []
    for number, row in enumerate(rows):
        values = [piece.advantages[number] for piece in step.pieces]
        found: list[ShownPiece] = []
        for value, run in groupby(zip(texts, values, strict=True), key=lambda pair: pair[1]):
            tone, strength = _colour(value, row)
            found.append(ShownPiece("".join(text for text, _ in run), tone, strength, f"{row.name} {_says(value)}"))
        shown.append(tuple(found))
        means.append(_mean(step, number))
    mark = "" if truth is None else "right" if truth else "wrong"
    return ShownStep(mark, tuple(shown), tuple(means))


def _mean(step: StepView, number: int) -> str:
    values = [(piece.advantages[number], piece.tokens) for piece in step.pieces]
    known = [(value, tokens) for value, tokens in values if value is not None]
    if len(known) < len(values) or not known:
        return "–"
    return _says(sum(value * tokens for value, tokens in known) / sum(tokens for _, tokens in known))


def _says(value: float | None) -> str:
    return "no credit" if value is None else f"{value:+.3f}".replace("-", "−")


def _colour(value: float | None, row: XrayRow) -> tuple[str, float]:
    """Tone, and strength in per cent."""
    if value is None:
        return "none", 0.0
    if value == 0.0 or not row.peak:
        return "zero", 0.0
    return ("pos" if value > 0 else "neg"), round(8 + 62 * min(1.0, abs(value) / row.peak), 1)


def _endings(texts: list[str]) -> list[str]:
    """A step's last line ends as one sign, so that a paragraph takes no empty lines."""
    joined = "".join(texts)
    kept, rest = len(joined.rstrip()), list[str]()
    at = 0
    for text in texts:
        rest.append(text[: max(0, kept - at)])
        at += len(text)
    if "\n" in joined[kept:] and rest:
        rest[-1] += " ⏎"
    return rest
