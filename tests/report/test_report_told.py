"""What the judge wrote, on the page: beside its step, collapsed, text only; votes, labels, first disagreement."""

import dataclasses
import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import Page, browsing, chromium
from report_views import HOSTILE, report, solution, told
from rich.console import Console

from stepcredit.core.protocols import Scale
from stepcredit.core.rationales import Passage, Rationale
from stepcredit.core.records import Judgement, Outcome, Problem, Rollout, Steps, Verdict
from stepcredit.report import (
    RolloutView,
    Truth,
    VotesView,
    dump_report,
    load_report,
    rollout_view,
    terminal_solution,
    write_report,
)
from stepcredit.report.payload import index_of

needs_browser = pytest.mark.skipif(
    chromium() is None, reason="no chromium on this machine (Debian: apt-get install chromium)"
)
CHECK = "(s => { s.checked = !s.checked; s.dispatchEvent(new Event('change')); })"
SHOWN = "document.getElementById('found').textContent"
STEP = "document.querySelector('.step[aria-current]')"
EVIL = (
    HOSTILE,
    "</SCRIPT ><script>window.hit = 1</script>",
    "<svg onload='window.hit = 1'>",
    "\u2028\u2029\x00\x1b[31m\u202eevil\u202c\ufeff",
    "`${window.hit = 1}` javascript:window.hit=1",
    "]]>--><![CDATA[<img src=x onerror='window.hit = 1'>",
)


def judged(scores: tuple[float | None, ...]) -> Judgement:
    ids = np.arange(len(scores))
    rollout = Rollout("r", Problem("p", "?", None), "g", 0, "a" * len(scores), np.zeros(1), ids, ids)
    steps = Steps(Outcome(rollout, "unscorable", reason="none"), ids, "line", np.zeros(len(scores), bool), closed=False)
    return Judgement(steps, tuple(Verdict(score, reason="" if score else "cut") for score in scores), "j")


def page_of(folder: Path, *views: RolloutView) -> str:
    path = folder / "report.html"
    path.write_text(write_report(dataclasses.replace(report(0), solutions=views)), encoding="utf-8")
    return path.as_uri() + "#solutions"


def settle(page: Page) -> None:
    page.evaluate("new Promise((done) => setTimeout(done, 60))")


def test_votes_are_counted_at_the_middle_of_the_scale_or_the_threshold() -> None:
    said = [Rationale("a", 0, (0.4, 1.0)), Rationale("b", 0, (0.6, None)), Rationale("c", 1, (0.2,))]
    view = rollout_view(judged((0.5, 0.6)), scale=Scale.PROBABILITY, rationales=said)
    assert view.steps[0].votes == VotesView(2, 1, 0.4, 0.5, 0.6)
    assert view.steps[1].votes == VotesView(2, 1, 0.2, 0.6, 1.0, silent=1)
    truth = Truth((True, None), (False, True), 0.7)
    view = rollout_view(judged((0.5, 0.6)), scale=Scale.PROBABILITY, rationales=said, truth=truth)
    assert [step.votes.wrong for step in view.steps if step.votes] == [2, 1]
    assert [(step.truth, step.called, step.differs) for step in view.steps] == [
        (True, False, True),
        (None, True, False),
    ]
    assert (view.first_disagreement, view.labelled) == (0, True)
    signed = rollout_view(judged((0.5,)), scale=Scale.SIGNED, rationales=[Rationale("a", 0, (-0.1,))])
    assert signed.steps[0].votes == VotesView(1, 1, -0.1, -0.1, -0.1)


def test_a_step_that_no_vote_scores_has_no_spread() -> None:
    view = rollout_view(judged((0.5, None)), rationales=[Rationale("a", 0, (0.5, None)), Rationale("whole")])
    assert [step.votes is None for step in view.steps] == [False, True]
    assert rollout_view(judged((0.5,))).steps[0].votes is None


def test_half_a_surrogate_pair_in_a_rationale_breaks_neither_page_nor_save() -> None:
    said = Rationale("a", 0, (0.5,), (Passage("written", "x\ud800", 0),), "y\udc00", "z\ud800")
    data = dataclasses.replace(report(0), solutions=(rollout_view(judged((0.5,)), rationales=[said]),))
    assert "x?" in write_report(data)
    assert load_report(dump_report(data)) == data


def test_saved_views_come_back_with_votes_labels_and_texts() -> None:
    data = dataclasses.replace(report(1), solutions=(told(0), told(1, labelled=False)))
    assert load_report(dump_report(data)) == data


def test_the_index_tells_where_judge_and_label_disagree() -> None:
    index = index_of([told(0), told(1), told(2, labelled=False)])
    assert (index["differs"], index["labelled"]) == ([None, 2, None], True)
    assert index_of([told(2, labelled=False), solution(0)])["labelled"] is False


@pytest.mark.parametrize("text", EVIL)
def test_no_text_of_the_judge_is_markup_in_the_file(text: str) -> None:
    page = write_report(dataclasses.replace(report(0), solutions=(told(1, text=text),)))
    quiet = write_report(dataclasses.replace(report(0), solutions=(told(1, text="quiet"),)))
    assert page.lower().count("</script") == quiet.lower().count("</script")
    assert page.lower().count("<script") == quiet.lower().count("<script")
    assert page.count("<svg") == quiet.count("<svg")
    [chunk] = re.findall(r'id="chunk-0">(.*?)</script>', page, re.DOTALL)
    assert json.loads(chunk)[0]["told"][1]["parts"][1][1] == f"{text} 1.0.0"


def test_the_terminal_shows_votes_and_where_label_and_judge_disagree() -> None:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(terminal_solution(told(1)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.600  1 of 3 say wrong" in text
    assert text.count("label: right; the judge says otherwise") == 1


@needs_browser
def test_the_page_shows_what_the_judge_wrote_on_its_step_collapsed(tmp_path: Path) -> None:
    long = "a long line of the judge " * 40
    with browsing(page_of(tmp_path, told(1, text=long), told(0))) as page:
        assert page.evaluate("document.querySelectorAll('.step').length") == 4
        assert page.evaluate("document.querySelectorAll('.step .told > details').length") == 4
        assert page.evaluate("document.querySelectorAll('.step details[open]').length") == 0
        assert page.evaluate("document.querySelectorAll('.passage').length") == 0  # made when opened
        assert page.evaluate("document.querySelectorAll('#solution > .told').length") == 1
        page.press("o")
        page.evaluate(f"{STEP}.querySelectorAll('.vote').forEach((node) => {{ node.open = true; }})")
        settle(page)
        texts = page.evaluate(f"[...{STEP}.querySelectorAll('.passage')].map((node) => node.textContent)")
        assert len(texts) == 12
        assert texts[1] == f"{long} 1.0.0"
        assert texts[2] == f"code the judge wroteprint('{long}')"
        assert texts[3].startswith("what running it gave · ok")
        assert page.evaluate(f"{STEP}.querySelectorAll('.passage.bad').length") == 2
        page.press("o")
        settle(page)
        assert page.evaluate(f"{STEP}.querySelectorAll('.told > details[open]').length") == 0
        assert page.complaints == []


@needs_browser
def test_one_short_text_is_open_from_the_start(tmp_path: Path) -> None:
    view = told(0)
    few = dataclasses.replace(view, rationales=view.rationales[1:2])
    with browsing(page_of(tmp_path, few)) as page:
        assert page.evaluate("document.querySelectorAll('.step .vote[open]').length") == 1
        assert page.evaluate("document.querySelectorAll('.step .passage').length") == 4


@needs_browser
def test_votes_labels_and_the_first_disagreement_are_marked(tmp_path: Path) -> None:
    with browsing(page_of(tmp_path, told(1), told(0))) as page:
        verdicts = page.evaluate("[...document.querySelectorAll('.verdict')].map((node) => node.textContent)")
        assert "0 of 3 votes say wrong" in verdicts[0]
        assert "1 of 3 votes say wrong" in verdicts[1]
        assert "min 0.10 · mean 0.60 · max 0.90" in verdicts[1]
        assert "all 0.90" in verdicts[3]
        assert ["label ✓ right" in text for text in verdicts] == [True, True, True, False]
        assert ["first disagreement" in text for text in verdicts] == [False, False, True, False]
        assert page.evaluate("document.querySelector('.first-differs').dataset.step") == "2"
        page.press("d")
        assert page.evaluate(f"{STEP}.dataset.step") == "2"
        assert page.complaints == []


@needs_browser
def test_only_solutions_on_which_judge_and_label_disagree(tmp_path: Path) -> None:
    with browsing(page_of(tmp_path, *(told(number) for number in range(6)))) as page:
        page.evaluate(f"{CHECK}(document.getElementById('differs'))")
        assert page.evaluate(SHOWN) == "3 of 6 solutions"
        assert "differs=1" in page.evaluate("location.hash")
        assert page.evaluate("document.querySelectorAll('#list li').length") == 3
        page.evaluate(f"{CHECK}(document.getElementById('differs'))")
        assert page.evaluate(SHOWN) == "6 solutions"
    with browsing(page_of(tmp_path, told(1, labelled=False))) as page:
        assert page.evaluate("document.getElementById('differs').parentElement.hidden")
        assert "label" not in page.evaluate("document.querySelector('.verdict').textContent")


@needs_browser
@pytest.mark.parametrize("text", EVIL)
def test_hostile_texts_of_the_judge_are_inert(text: str, tmp_path: Path) -> None:
    url = page_of(tmp_path, told(1, text=text))
    with browsing(url) as page:
        page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
        settle(page)
        shown = page.evaluate("[...document.querySelectorAll('.passage.output pre')].map((node) => node.textContent)")
        assert len(shown) == 12
        assert set(shown) == {text}
        assert page.evaluate("window.hit") is None
        assert page.evaluate("document.images.length + document.querySelectorAll('article script').length") == 0
        assert page.requests == [url.partition("#")[0]]
        assert page.complaints == []


@needs_browser
def test_a_line_without_end_neither_widens_the_page_nor_hides_the_verdict(tmp_path: Path) -> None:
    with browsing(page_of(tmp_path, told(1, text="x" * 200_000))) as page:
        for width in (1366, 400):
            page.resize(width, 800)
            page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
            settle(page)
            assert page.evaluate("(n => n.scrollWidth - n.clientWidth)(document.getElementById('solution'))") == 0
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            tall = page.evaluate("Math.max(...[...document.querySelectorAll('.passage')].map((n) => n.clientHeight))")
            assert tall < 800
        assert page.complaints == []


@needs_browser
def test_ten_thousand_solutions_with_all_that_the_judge_wrote_are_paged_quietly(tmp_path: Path) -> None:
    """As many as a report may hold, each with 13 votes; they are paged to the end and opened."""
    base = [told(number) for number in range(200)]
    views = (dataclasses.replace(view, id=f"t{place}") for place, view in zip(range(10_000), itertools.cycle(base)))
    with browsing(page_of(tmp_path, *views)) as page:
        assert page.evaluate(SHOWN) == "10,000 solutions"
        assert page.evaluate("document.querySelectorAll('#list li').length") == 60
        page.evaluate("location.hash = '#solutions?item=9999&step=3'")
        settle(page)
        assert page.evaluate("document.querySelectorAll('.step .told').length") == 4
        assert page.evaluate("document.getElementById('pages').textContent") == "page 167 of 167"
        page.evaluate(f"{CHECK}(document.getElementById('differs'))")
        assert page.evaluate(SHOWN) == "5,000 of 10,000 solutions"
        for _ in range(30):
            page.evaluate("document.getElementById('earlier').click()")
        page.evaluate("document.querySelector('#list li:last-child button').click()")
        page.press("o")
        settle(page)
        assert page.evaluate("document.querySelectorAll('.step .votes[open]').length") == 1
        page.evaluate("document.getElementById('solution').scrollTo(0, 1e6)")
        assert page.evaluate("document.getElementById('solution').scrollTop") > 0
        assert page.complaints == []
