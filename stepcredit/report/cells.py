"""Cells: table values as text, with the geometry of their interval on the column's common scale."""

import math
from dataclasses import dataclass
from typing import final

from stepcredit.report.views import Cell, Estimate, TableView


@final
@dataclass(frozen=True)
class ShownCell:
    """A cell as both renderings show it.

    Args:
        kind: `text`, `number`, `estimate` or `none`.
        text: what stands in the cell.
        bounds: the interval as text, empty if there is none.
        left: where the interval starts on the column's scale, in per cent.
        width: its width in per cent.
        at: where the value lies in per cent.
    """

    kind: str
    text: str = ""
    bounds: str = ""
    left: float = 0.0
    width: float = 0.0
    at: float = 0.0


def shown_rows(table: TableView) -> tuple[tuple[ShownCell, ...], ...]:
    """[R][C] cells as text, intervals placed on one scale a column."""
    scales = [_scale(table, column=column) for column in range(len(table.columns))]
    return tuple(
        tuple(shown_cell(cell, low=low, high=high) for cell, (low, high) in zip(row, scales, strict=True))
        for row in table.rows
    )


def is_text(table: TableView, *, column: int) -> bool:
    """True if a column holds words only: those stand on the left, numbers on the right."""
    return column == 0 or all(isinstance(row[column], str) for row in table.rows)


def shown_cell(cell: Cell, *, low: float, high: float) -> ShownCell:
    """One cell as text; `low` and `high` are the ends of its column's scale.

    >>> shown_cell(Estimate(0.5, 0.25, 0.75, digits=2), low=0.0, high=1.0)
    ShownCell(kind='estimate', text='0.50', bounds='[0.25, 0.75]', left=25.0, width=50.0, at=50.0)
    >>> shown_cell(None, low=0.0, high=1.0).kind
    'none'
    """
    if isinstance(cell, str):
        return ShownCell("text", cell)
    if isinstance(cell, Estimate):
        return _estimate(cell, low=low, high=high)
    if cell is None or not math.isfinite(cell):
        return ShownCell("none")
    return ShownCell("number", f"{cell:,}" if isinstance(cell, int) else f"{cell:,.4g}")


def _estimate(cell: Estimate, *, low: float, high: float) -> ShownCell:
    if cell.value is None or math.isnan(cell.value):
        return ShownCell("none")
    text = f"{cell.value:,.{cell.digits}f}"
    if cell.low is None or cell.high is None:
        return ShownCell("number", text)
    span = (high - low) or 1.0
    left, width = 100 * (cell.low - low) / span, 100 * (cell.high - cell.low) / span
    bounds = f"[{cell.low:,.{cell.digits}f}, {cell.high:,.{cell.digits}f}]"
    return ShownCell(
        "estimate", text, bounds, round(left, 1), round(width, 1), round(100 * (cell.value - low) / span, 1)
    )


def _scale(table: TableView, *, column: int) -> tuple[float, float]:
    cells = [row[column] for row in table.rows]
    known = [cell for cell in cells if isinstance(cell, Estimate)]
    ends = [
        end for cell in known for end in (cell.value, cell.low, cell.high) if end is not None and math.isfinite(end)
    ]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)
