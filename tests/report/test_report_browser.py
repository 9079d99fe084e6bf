"""The page in a real browser: 10,000 solutions load without a complaint, and keys, filters and links work."""

from pathlib import Path

import pytest
from browser import browsing, chromium
from report_views import HOSTILE, report

from stepcredit.report import write_report

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="no chromium on this machine (Debian: apt-get install chromium)"
)

STEP = "document.querySelector('.step[aria-current]').dataset.step"
SHOWN = "document.getElementById('found').textContent"
CHANGE = "((node, value) => { node.value = value; node.dispatchEvent(new Event('change')); })"
STATEMENT = "document.querySelector('.statement').textContent"


def page_at(folder: Path, count: int, **changes: str) -> str:
    path = folder / "report.html"
    path.write_text(write_report(report(count, **changes)), encoding="utf-8")
    return path.as_uri()


def test_ten_thousand_solutions_load_and_page_quietly(tmp_path: Path) -> None:
    url = page_at(tmp_path, 10_000)
    with browsing(url) as page:
        assert page.requests == [url]
        assert page.evaluate("document.querySelectorAll('#results table tbody tr').length") == 2
        page.evaluate("document.getElementById('tab-solutions').click()")
        assert page.evaluate(SHOWN) == "10,001 solutions"
        assert page.evaluate("document.querySelectorAll('#list li').length") == 60
        page.press("j")
        assert "#solutions?item=1" in page.evaluate("location.href")
        page.evaluate("location.hash = '#solutions?item=9999&step=2'")
        assert (
            page.evaluate(
                "new Promise((done) => setTimeout(() => done(document.querySelectorAll('.step').length), 50))"
            )
            == 4
        )
        assert page.evaluate(STATEMENT) == "What is 1 + 1? (2499)"
        assert page.evaluate(STEP) == "2"
        assert page.complaints == []


def test_keys_and_filters(tmp_path: Path) -> None:
    with browsing(page_at(tmp_path, 40) + "#solutions") as page:
        page.press("e")
        assert page.evaluate(STEP) == "1"
        page.press("l")
        assert page.evaluate(STEP) == "2"
        page.press("2")
        assert page.evaluate("document.querySelector('.tabs [aria-pressed=true]').textContent") == "grpo"
        page.press("p")
        assert page.evaluate(SHOWN) == "4 of 41 solutions"
        page.press("p")
        for name, value, found in (("outcome", "w", 20), ("outcome", "u", 1), ("outcome", "", 41), ("round", "3", 8)):
            page.evaluate(f"{CHANGE}(document.getElementById('{name}'), '{value}')")
            assert page.evaluate(SHOWN).split()[0] == str(found)
        page.evaluate(
            "(s => { s.checked = true; s.dispatchEvent(new Event('change')); })(document.getElementById('unknown'))"
        )
        assert page.evaluate(SHOWN) == "4 of 41 solutions"
        assert "round=3" in page.evaluate("location.hash")
        assert "unknown=1" in page.evaluate("location.hash")
        page.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") in ("dark", "light")
        assert page.complaints == []


def test_text_of_models_stays_text(tmp_path: Path) -> None:
    with browsing(page_at(tmp_path, 4, text=HOSTILE, problem=HOSTILE) + "#solutions") as page:
        assert page.evaluate("document.images.length") == 0
        assert page.evaluate(STATEMENT).startswith(HOSTILE)
        assert page.evaluate("document.querySelector('.step .text').textContent").startswith(HOSTILE)
        assert page.complaints == []
