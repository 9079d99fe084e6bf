"""The page: one offline `report.html`, with styles, script and data inside; it loads nothing and sends nothing."""

from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from stepcredit.report.cells import is_text, shown_rows
from stepcredit.report.payload import chunks_of, index_of, script_json
from stepcredit.report.plots import can_plot, plot_svg
from stepcredit.report.views import ReportData, TableView
from stepcredit.report.xray import shown_xray

_SCRIPTS = ("data.js", "list.js", "told.js", "solution.js", "main.js")


def write_report(data: ReportData) -> str:
    """The whole report as HTML text; the caller puts it on disk with `store.files`.

    Every text of `data` is escaped: in the head by the template, in the data as JSON without `<`, and the page's
    script puts it on the screen as text. Without matplotlib the plots are left out and a sentence says so.

    Args:
        data: what to show.

    Returns:
        One HTML document that needs no network and opens from disk.
    """
    plots = data.plots if can_plot() else ()
    return (
        _environment()
        .get_template("page.html")
        .render(
            data=data,
            version=package_version(),
            tables=[(table, _heads(table), shown_rows(table)) for table in data.tables if table.rows],
            drawings=[(plot.title, _ours(plot_svg(plot, name=f"plot{place}"))) for place, plot in enumerate(plots)],
            xrays=() if data.xray is None else shown_xray(data.xray),
            css=_ours(_text("page.css") + (_text("xray.css") if data.xray is not None else "")),
            script=_ours("\n".join(_text(name) for name in _SCRIPTS)),
            index=_ours(script_json(index_of(data.solutions))),
            chunks=[_ours(script_json(chunk)) for chunk in chunks_of(data.solutions)],
        )
    )


def package_version() -> str:
    """Version of stepcredit as installed, `(source tree)` in a tree that was never installed."""
    try:
        return installed_version("stepcredit")
    except PackageNotFoundError:
        return "(source tree)"


def _heads(table: TableView) -> list[tuple[str, str]]:
    """Head and class of each column."""
    return [(name, "words" if is_text(table, column=place) else "") for place, name in enumerate(table.columns)]


def _ours(text: str) -> Markup:
    """Text that needs no escaping: our own files, SVG that matplotlib escaped, JSON without `<`."""
    return Markup(text)  # noqa: S704 -- the callers above are all there are


@cache
def _environment() -> Environment:
    return Environment(loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined)


@cache
def _text(name: str) -> str:
    return (files("stepcredit.report") / "page" / name).read_text(encoding="utf-8")
