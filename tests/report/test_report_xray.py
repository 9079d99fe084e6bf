"""The credit X-ray on the page: one row a rule, aligned, in colours of its own scale; the text of models stays text."""

from dataclasses import replace
from pathlib import Path

import pytest
from browser import browsing, chromium
from report_views import HOSTILE, report, solution

from stepcredit.report import PieceView, StepView, XrayRow, XrayView, dump_report, load_report, write_report
from stepcredit.report.views import ReportData
from stepcredit.report.xray import shown_xray

ROWS = (XrayRow("tp_grpo", 0.75), XrayRow("grpo", 0.75))


def rayed(**changes: str) -> ReportData:
    view = solution(0, **changes)
    return replace(report(2, **changes), xray=XrayView(ROWS, (view,), ((True, False, None, True),), "the labels"))


def test_pieces_are_joined_where_a_rule_pays_them_alike() -> None:
    pieces = (PieceView("a", 1, (1.0, 0.5)), PieceView("b", 1, (-2.0, 0.5)), PieceView("c\n\n", 2, (None, 0.5)))
    view = replace(solution(0), steps=(StepView(pieces),))
    [shown] = shown_xray(XrayView((XrayRow("one", 2.0), XrayRow("two", 0.5)), (view,)))
    one, two = shown.steps[0].rows
    assert [(piece.text, piece.tone) for piece in one] == [("a", "pos"), ("b", "neg"), ("c ⏎", "none")]
    assert [piece.strength for piece in one] == [39.0, 70.0, 0.0]
    assert [(piece.text, piece.says) for piece in two] == [("abc ⏎", "two +0.500")]
    assert shown.steps[0].means == ("–", "+0.500")
    assert [(band.left, band.width) for band in shown.bands[0]] == [(0.0, 250.0), (250.0, 250.0), (500.0, 500.0)]
    assert [(band.left, band.width) for band in shown.bands[1]] == [(0.0, 1000.0)]
    assert shown.steps[0].mark == ""


def test_credit_beyond_the_peak_is_no_stronger_and_zero_has_no_colour() -> None:
    pieces = (PieceView("a", 1, (9.0,)), PieceView("b", 1, (0.0,)))
    view = replace(solution(0), steps=(StepView(pieces),))
    [shown] = shown_xray(XrayView((XrayRow("one", 2.0),), (view,)))
    assert [(piece.tone, piece.strength) for piece in shown.steps[0].rows[0]] == [("pos", 70.0), ("zero", 0.0)]
    [flat] = shown_xray(XrayView((XrayRow("one", 0.0),), (view,)))
    assert [piece.tone for piece in flat.steps[0].rows[0]] == ["zero", "zero"]


def test_a_saved_x_ray_is_read_again_and_a_report_without_one_has_no_tab() -> None:
    assert load_report(dump_report(rayed())) == rayed()
    page = write_report(rayed())
    assert 'id="tab-xray"' in page
    assert "#xray { max-width" in page
    plain = write_report(report(2))
    assert 'id="tab-xray"' not in plain
    assert 'id="xray"' not in plain
    assert "#xray {" not in plain


def test_text_of_models_is_escaped_on_the_x_ray() -> None:
    page = write_report(rayed(text=HOSTILE, problem=HOSTILE))
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


@pytest.mark.skipif(chromium() is None, reason="no chromium on this machine (Debian: apt-get install chromium)")
def test_rows_are_aligned_and_the_page_is_quiet(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(write_report(rayed(text=f"{HOSTILE} and more words {'of text ' * 40}")), encoding="utf-8")
    with browsing(path.as_uri() + "#xray") as page:
        assert page.requests == [path.as_uri()]
        assert page.evaluate("getComputedStyle(document.getElementById('xray')).display") == "block"
        assert page.evaluate("document.querySelectorAll('#xray .tokens').length") == 4 * 2
        assert page.evaluate("document.querySelectorAll('#xray .bands svg').length") == 2
        assert page.evaluate("document.images.length") == 0
        alike = "['left', 'width', 'height'].every((side) => box[side] === a[0][side])"
        same = f"(a) => a.every((box) => {alike})"
        boxes = "[...document.querySelector('#xray .lines').querySelectorAll('.tokens')]"
        assert page.evaluate(f"({same})({boxes}.map((node) => node.getBoundingClientRect()))") is True
        text = "document.querySelectorAll('#xray .tokens')[{}].textContent"
        assert page.evaluate(text.format(0)).startswith(HOSTILE[:9])
        assert page.evaluate(f"{text.format(0)} === {text.format(1)}") is True
        marks = "[...document.querySelectorAll('#xray .at i')].map((node) => node.textContent).join('')"
        assert page.evaluate(marks) == "✓✗✓"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") is True
        page.resize(390, 800)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") is True
        page.evaluate("document.getElementById('tab-solutions').click()")
        hidden = "new Promise((done) => setTimeout(() => done(document.getElementById('xray').hidden), 50))"
        assert page.evaluate(hidden) is True
        assert page.complaints == []
