"""Views: what the report shows, as frozen values; programs fill them, the page and the terminal render them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from stepcredit.core.protocols import Scale
from stepcredit.core.rationales import Rationale
from stepcredit.core.records import Finish, Label, OutcomeStatus


@final
@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; `None` bounds mean that no interval was computed.

    Args:
        value: the estimate, `None` if unknown.
        low: lower bound.
        high: upper bound.
        digits: decimals shown.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    digits: int = 3


SizeUnit = Literal["token", "byte"]
"""What a solution's tokens are: those of a tokenizer, or, where none was named, the bytes of its text."""

Cell = str | int | float | Estimate | None
"""One table cell; `None` is shown as a dash, never as 0."""


@final
@dataclass(frozen=True)
class TableView:
    """A table: a head line, rows of cells, and a sentence beneath.

    Args:
        title: what the table says.
        columns: [C] column heads; the first column names the row.
        rows: [R][C] cells.
        note: a sentence under the table, such as how the intervals were made.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@final
@dataclass(frozen=True)
class SeriesView:
    """One line of a plot; NaN-free: leave out the points that are unknown.

    Args:
        name: what the legend says.
        x: [n] positions.
        y: [n] values.
        low: [n] lower bounds of a band, or empty.
        high: [n] upper bounds of a band, or empty.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@final
@dataclass(frozen=True)
class PlotView:
    """A plot as data; drawn where matplotlib is installed.

    Args:
        title: what the plot shows.
        x_label: name and unit of x.
        y_label: name and unit of y.
        series: the lines.
        y_range: limits of y, `None` to fit the data.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[SeriesView, ...]
    y_range: tuple[float, float] | None = None


@final
@dataclass(frozen=True)
class PieceView:
    """A run of neighbouring tokens of one step that all rules credit equally.

    Args:
        text: the tokens' text.
        tokens: number of tokens.
        advantages: one a rule, in the order of `RolloutView.rules`; `None` where the rule gave none.
    """

    text: str
    tokens: int
    advantages: tuple[float | None, ...] = ()


@final
@dataclass(frozen=True)
class VotesView:
    """How a judge's votes on one step are spread; scores on the judge's scale.

    Args:
        number: votes that give a score; the others are `silent`.
        wrong: votes whose score says that the step is wrong.
        low: smallest score.
        mean: of the scores.
        high: largest score.
        silent: votes that were asked and give none that counts.
    """

    number: int
    wrong: int
    low: float
    mean: float
    high: float
    silent: int = 0


@final
@dataclass(frozen=True)
class Truth:
    """Labels of a solution's steps, and how the judge's verdicts are read beside them.

    Args:
        steps: [K] True = right, `None` = not labelled.
        called: [K] True = called right by the judge, `None` = unknown.
        threshold: a step whose score is below it is called wrong.
    """

    steps: tuple[bool | None, ...]
    called: tuple[bool | None, ...]
    threshold: float


@final
@dataclass(frozen=True)
class StepView:
    """One step with its verdict.

    Args:
        pieces: the step's text, cut where an advantage changes.
        label: the verdict's label, if it has one.
        score: the verdict's number on the judge's scale, if it has one.
        reason: why the step is unknown, or the judge's rationale.
        in_answer: True for steps of the answer block.
        judged: False if no judge read the rollout (outcome-only credit); then nothing is unknown either.
        votes: how the judge's votes are spread, `None` if none of them scores the step.
        truth: the step's label from people: True = right, `None` = not labelled.
        called: what the verdict is read as beside the label: True = right, `None` = unknown, or there are no labels.
    """

    pieces: tuple[PieceView, ...]
    label: Label | None = None
    score: float | None = None
    reason: str = ""
    in_answer: bool = False
    judged: bool = True
    votes: VotesView | None = None
    truth: bool | None = None
    called: bool | None = None

    @property
    def differs(self) -> bool:
        """True if label and judge both speak of the step and disagree."""
        return self.truth is not None and self.called is not None and self.truth != self.called

    @property
    def text(self) -> str:
        """The whole text of the step."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def unknown(self) -> bool:
        """True if a judge read the step and could say nothing."""
        return self.judged and self.label is None and self.score is None


@final
@dataclass(frozen=True)
class RuleView:
    """One credit rule that was applied to a rollout.

    Args:
        name: name of the rule.
        kept: False if a keep rule filtered the rollout out of training.
        note: why it was filtered, or what was done about unknown verdicts.
    """

    name: str
    kept: bool = True
    note: str = ""


@final
@dataclass(frozen=True)
class RolloutView:
    """One solution as the step viewer shows it.

    Args:
        id: the rollout's id.
        problem: text of the problem.
        problem_id: id of the problem; ties the same problem's solutions together.
        reference: reference answer, `None` if none is known.
        answer: answer read from the completion, `None` if there was none to read.
        outcome: the checker's verdict.
        outcome_reason: why, in a few words.
        steps: the completion, step by step.
        rules: the credit rules whose advantages the pieces carry.
        method: name of the arm or the model that wrote it; the viewer filters by it.
        round: number of the training round, `None` outside training.
        judge: fingerprint of the judge, empty if none read it; see `judge_name`.
        scale: what the scores mean, `None` if the judge gives labels only.
        finish: why the completion ended.
        tokens: number of completion tokens.
        note: one line of the program's own, shown under the head.
        size_unit: what the tokens are; says what `tokens` counts.
        rationales: what the judge wrote, one a vote.
    """

    id: str
    problem: str
    problem_id: str
    reference: str | None
    answer: str | None
    outcome: OutcomeStatus
    outcome_reason: str
    steps: tuple[StepView, ...]
    rules: tuple[RuleView, ...] = ()
    method: str = ""
    round: int | None = None
    judge: str = ""
    scale: Scale | None = None
    finish: Finish = "stop"
    tokens: int = 0
    note: str = ""
    size_unit: SizeUnit = "token"
    rationales: tuple[Rationale, ...] = ()

    @property
    def first_disagreement(self) -> int | None:
        """Index of the first step on which label and judge disagree, `None` if they do on none."""
        return next((number for number, step in enumerate(self.steps) if step.differs), None)

    @property
    def labelled(self) -> bool:
        """True if people labelled a step."""
        return any(step.truth is not None for step in self.steps)

    @property
    def unknown(self) -> int:
        """Number of steps that the judge could not decide."""
        return sum(step.unknown for step in self.steps)


@final
@dataclass(frozen=True)
class XrayRow:
    """One row of the credit X-ray.

    Args:
        name: of the rule, or of what it is compared with.
        peak: absolute advantage at which its colour is full; each row has a scale of its own.
    """

    name: str
    peak: float


@final
@dataclass(frozen=True)
class XrayView:
    """The same solutions with their tokens coloured by each rule, one row a rule.

    Args:
        rows: [R] the rows.
        solutions: what is shown; their `rules` are these rows, in order.
        truths: for each solution the truth of its steps, `None` unknown; empty if nothing is known.
        truth_by: whose truth it is.
    """

    rows: tuple[XrayRow, ...]
    solutions: tuple[RolloutView, ...]
    truths: tuple[tuple[bool | None, ...], ...] = ()
    truth_by: str = ""


@final
@dataclass(frozen=True)
class ReportData:
    """All that a report shows.

    Args:
        title: name of the run.
        subtitle: one line: what was done.
        facts: name and value pairs of the run header (policy, judge, credit, seeds, versions, command).
        counts: name and number pairs shown large (responses, judged, unknown ...).
        tables: result tables; one without rows is not shown.
        plots: plots under the tables.
        closing: the sentence that the figures allow.
        solutions: what the step viewer holds; choose at most some 10,000.
        omitted: number of solutions of the run that are not among `solutions`.
        badge: what everybody who looks must know first, in red; empty if there is nothing.
        xray: the same solutions under several rules, `None` where nothing is compared.
    """

    title: str
    subtitle: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    counts: tuple[tuple[str, int | str], ...] = ()
    tables: tuple[TableView, ...] = ()
    plots: tuple[PlotView, ...] = ()
    closing: str = ""
    solutions: tuple[RolloutView, ...] = ()
    omitted: int = 0
    badge: str = ""
    xray: XrayView | None = None

    @property
    def judge(self) -> str:
        """Name of the judge that was asked for, from the fact `judge`; empty where a run has several."""
        return dict(self.facts).get("judge", "")


def judge_name(fingerprint: str) -> str:
    """What to call a judge of which only the fingerprint is known: the words before its digest.

    >>> judge_name("intrinsic:d0af6e1b9c2f4a5d8e7b6c5d4e3f2a1b"), judge_name("markers:world-1")
    ('intrinsic', 'markers:world-1')
    """
    return re.sub(r":[0-9a-f]{16,}$", "", fingerprint)


@final
@dataclass(frozen=True)
class ThoughtView:
    """A maximal run of neighbouring steps with the same label.

    Args:
        label: the common label; `None` for a run of steps without one.
        first: index of the first step.
        last: index after the last step.
    """

    label: Label | None
    first: int
    last: int


def thoughts_of(steps: Sequence[StepView]) -> tuple[ThoughtView, ...]:
    """Merge neighbouring steps with equal labels, for showing; steps without label stay on their own.

    Source: tp_grpo.md 1.5. Differs: none.

    >>> right, wrong = StepView((), Label.CORRECT), StepView((), Label.INCORRECT)
    >>> [(t.label.value, t.first, t.last) for t in thoughts_of([right, right, wrong])]
    [('correct', 0, 2), ('incorrect', 2, 3)]
    """
    found: list[ThoughtView] = []
    for index, step in enumerate(steps):
        if found and step.label is not None and found[-1].label == step.label:
            found[-1] = ThoughtView(step.label, found[-1].first, index + 1)
        else:
            found.append(ThoughtView(step.label, index, index + 1))
    return tuple(found)
