"""The page in a real browser: 10,000 solutions load without a complaint, and keys, filters and links work."""

import dataclasses
from pathlib import Path

import pytest
from browser import browsing, chromium
from report_views import HOSTILE, report, solution

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


def test_on_a_phone_nothing_is_wider_than_the_screen(tmp_path: Path) -> None:
    """The list's longest name set the width of the one column: at 400 pixels the solutions took 658."""
    text = "a step of a solution that goes on for longer than a phone is wide, with much_in_one_word " * 3
    problem = "What is the sum of all numbers from one to one hundred, both of them included?"
    with browsing(page_at(tmp_path, 40, text=text, problem=problem)) as page:
        page.resize(400, 800)
        for view in ("results", "solutions"):
            page.evaluate(f"location.hash = '#{view}'; new Promise((done) => setTimeout(done, 100))")
            for place in ("html", "main", f"#{view}"):
                assert page.evaluate(f"document.querySelector('{place}').scrollWidth") <= 400, (view, place)
            page.screenshot(tmp_path / f"{view}.png")
        assert page.evaluate("(n => n.scrollWidth - n.clientWidth)(document.getElementById('solution'))") == 0
        assert page.complaints == []


def test_the_judge_is_shown_by_name_and_its_fingerprint_on_pointing(tmp_path: Path) -> None:
    digest = "intrinsic:d0af6e1b9c2f4a5d8e7b6c5d4e3f2a1b"
    view = dataclasses.replace(solution(0), judge=digest, tokens=16, size_unit="byte")
    data = dataclasses.replace(report(0), solutions=(view,), facts=(("judge", "markers"),))
    path = tmp_path / "report.html"
    path.write_text(write_report(data), encoding="utf-8")
    with browsing(path.as_uri() + "#solutions") as page:
        chip = "[...document.querySelectorAll('.chip')].find((node) => node.textContent.startsWith('judge'))"
        assert page.evaluate(f"{chip}.textContent") == "judge markers"
        assert page.evaluate(f"{chip}.title") == digest
        head = page.evaluate("document.querySelector('.head').textContent")
        assert "16 bytes" in head
        assert "token" not in page.evaluate("document.querySelector('#solution').textContent")
        assert page.complaints == []
