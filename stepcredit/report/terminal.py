"""The terminal view: tables and judged solutions with rich, for people who work over ssh."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from stepcredit.core.records import Label
from stepcredit.report.cells import ShownCell, is_text, shown_rows
from stepcredit.report.views import PieceView, ReportData, RolloutView, StepView, TableView, judge_name, thoughts_of

_MARKS = {
    Label.CORRECT: ("✓", "blue"),
    Label.INCORRECT: ("✗", "dark_orange"),
    Label.MATCHED: ("=", "magenta"),
    Label.MISMATCHED: ("≠", "bright_black"),
}
_OUTCOMES = {"right": ("✓ right", "bold blue"), "wrong": ("✗ wrong", "bold dark_orange")}
_UNKNOWN = ("?", "bold yellow")


def terminal_report(data: ReportData, *, limit: int | None = None) -> RenderableType:
    """The whole report as a rich renderable.

    Args:
        data: what to show.
        limit: show at most so many solutions; `None` shows all, 0 only the results.
    """
    parts: list[RenderableType] = [Text(data.badge, style="bold white on red")] if data.badge else []
    parts.append(Text(data.title, style="bold"))
    if data.subtitle:
        parts.append(Text(data.subtitle, style="dim"))
    if data.counts:
        parts.append(Text("  ".join(f"{name} {_grouped(value)}" for name, value in data.counts)))
    parts += [Padding(terminal_table(table), (1, 0, 0, 0)) for table in data.tables if table.rows]
    if data.closing:
        parts.append(Padding(Text(data.closing, style="italic"), (1, 0)))
    shown = data.solutions if limit is None else data.solutions[:limit]
    parts += [Padding(terminal_solution(view, judge=data.judge), (1, 0, 0, 0)) for view in shown]
    left = len(data.solutions) - len(shown) + data.omitted
    if left and limit != 0:
        parts.append(Padding(Text(f"{left:,} more solutions", style="dim"), (1, 0, 0, 0)))
    return Group(*parts)


@final
@dataclass(frozen=True)
class TerminalTable:
    """A table with its intervals; one block a row where the console is too narrow for all columns side by side."""

    table: TableView

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich renders it by this."""
        del console
        widths = _widths(self.table, room=options.max_width)
        yield _blocks(self.table) if widths is None else _side_by_side(self.table, widths)


def terminal_table(table: TableView) -> TerminalTable:
    """One table with its intervals, fitted to the console that prints it."""
    return TerminalTable(table)


def _widths(table: TableView, *, room: int) -> list[int] | None:
    """[C] widths of the columns side by side, none below its least; `None` if the room is too small for that.

    What room is left goes to the columns that want least of it, so that one long text alone is wrapped. Rich is not
    asked: it makes columns narrower than their least width, and then cuts the table at the console's edge.
    """
    columns = range(len(table.columns))
    least = [_least_width(table, column=place) for place in columns]
    wanted = [_full_width(table, column=place) - least[place] for place in columns]
    spare = room - sum(least) - 3 * len(least) - 1
    if spare < 0:
        return None
    widths = list(least)
    for rank, place in enumerate(sorted(columns, key=lambda column: wanted[column])):
        given = min(wanted[place], spare // (len(widths) - rank))
        widths[place] += given
        spare -= given
    return widths


def _least_width(table: TableView, *, column: int) -> int:
    """Narrowest width of a column: heads and words wrap at spaces, numbers and their intervals do not."""
    words = ["", *table.columns[column].split()]
    for row in shown_rows(table):
        words += row[column].text.split() if is_text(table, column=column) else [_cell(row[column])]
    return max(map(cell_len, words))


def _full_width(table: TableView, *, column: int) -> int:
    """Width at which nothing in a column is wrapped."""
    texts = [table.columns[column], *(_cell(row[column]) for row in shown_rows(table))]
    return max(cell_len(line) for text in texts for line in text.split("\n"))


def _side_by_side(table: TableView, widths: Sequence[int]) -> Table:
    shown = Table(title=table.title or None, title_justify="left", caption=table.note or None, caption_justify="left")
    for place, name in enumerate(table.columns):
        left = is_text(table, column=place)
        shown.add_column(Text(name), justify="left" if left else "right", width=widths[place])
    for row in shown_rows(table):
        shown.add_row(*(Text(_cell(cell)) for cell in row))
    return shown


def _blocks(table: TableView) -> RenderableType:
    parts: list[RenderableType] = [Text(table.title, style="italic")] if table.title else []
    for row in shown_rows(table):
        facts = [Text.assemble((f"{n} ", "dim"), _cell(c)) for n, c in zip(table.columns[1:], row[1:], strict=True)]
        parts += [Text(_cell(row[0]), style="bold"), Padding(Columns(facts, padding=(0, 3)), (0, 0, 0, 2))]
    return Group(*parts, *([Text(table.note, style="dim")] if table.note else []))


def _cell(cell: ShownCell) -> str:
    return "–" if cell.kind == "none" else f"{cell.text} {cell.bounds}".strip()


def terminal_solution(view: RolloutView, *, judge: str = "") -> RenderableType:
    """One solution: head, problem, then step by step with thoughts, verdicts and advantages of the first rule.

    Args:
        view: the solution.
        judge: what to call the judge; by default what its fingerprint says.
    """
    label, style = _OUTCOMES.get(view.outcome, ("? unscorable", "bold yellow"))
    size = f"{view.tokens:,} {view.size_unit}{'' if view.tokens == 1 else 's'}"
    facts = [view.method, "" if view.round is None else f"round {view.round}", size]
    facts.append((judge or judge_name(view.judge)) if view.judge else "")
    head = Text.assemble((label, style), f"  answer {view.answer if view.answer is not None else 'none read'}")
    head.append(f"  reference {view.reference if view.reference is not None else 'none known'}")
    head.append("  " + " · ".join(fact for fact in facts if fact), style="dim")
    lines: list[RenderableType] = [head, Text(view.problem.strip(), style="bold")]
    lines += [Text(note, style="dim") for note in (view.outcome_reason, view.note) if note]
    return Group(*lines, _steps(view))


def _steps(view: RolloutView) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", style="dim", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", style="dim", no_wrap=True)
    peak = max((abs(a) for step in view.steps for piece in step.pieces for a in piece.advantages[:1] if a), default=0.0)
    for thought in thoughts_of(view.steps):
        for number in range(thought.first, thought.last):
            grid.add_row(*_step_row(view, number, alone=thought.last - thought.first == 1, peak=peak))
    return grid


def _step_row(view: RolloutView, number: int, *, alone: bool, peak: float) -> tuple[Text, Text, Text, Text]:
    step = view.steps[number]
    mark, colour = _mark(step)
    text = Text()
    for piece in step.pieces:
        text.append(piece.text, style=_shade(piece, peak=peak))
    text.rstrip()
    if step.reason:
        text.append(f"\n{step.reason}", style="dim italic")
    if step.differs:
        text.append(f"\nlabel: {'right' if step.truth else 'wrong'}; the judge says otherwise", style="bold")
    bar = " " if alone else "┃"
    return Text(str(number)), Text(f"{bar}{mark}", style=colour), text, Text(_numbers(step))


def _mark(step: StepView) -> tuple[str, str]:
    if step.label is not None:
        return _MARKS[step.label]
    return _UNKNOWN if step.unknown else ("·", "dim")


def _numbers(step: StepView) -> str:
    parts = [] if step.score is None else [f"{step.score:.3f}"]
    if step.votes is not None and step.votes.number > 1:
        parts.append(f"{step.votes.wrong} of {step.votes.number} say wrong")
    values = [piece.advantages[0] for piece in step.pieces if piece.advantages]
    known = [value for value in values if value is not None]
    if known:
        low, high = min(known), max(known)
        parts.append(f"{low:+.3f}" if low == high else f"{low:+.3f}..{high:+.3f}")
    return "  ".join(parts)


def _shade(piece: PieceView, *, peak: float) -> Style:
    value = piece.advantages[0] if piece.advantages else None
    if not value or not peak:
        return Style()
    red, green, blue = (43, 131, 201) if value > 0 else (224, 112, 26)
    share = 0.2 + 0.5 * abs(value) / peak
    return Style(bgcolor=f"rgb({int(red * share)},{int(green * share)},{int(blue * share)})", color="white")


def _grouped(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
