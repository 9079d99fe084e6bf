"""The page as text: escaping, offline, plots or a sentence; and the terminal view of the same data."""

import dataclasses
import io
import json
import re

import pytest
from report_views import HOSTILE, report, scored, solution
from rich.console import Console

from stepcredit.report import Estimate, ReportData, TableView, page, terminal_report, terminal_table, write_report
from stepcredit.report.payload import CHUNK, index_of, script_json, strip_of
from stepcredit.report.plots import plot_svg

SCRIPT = re.compile(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', re.DOTALL)


def terminal(data: ReportData, limit: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(terminal_report(data, limit=limit))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_hostile_text_is_never_markup() -> None:
    data = dataclasses.replace(report(3, text=HOSTILE, problem=HOSTILE), title=HOSTILE, closing=HOSTILE)
    text = write_report(data)
    assert "<img" not in text
    assert text.count("</script>") == len(SCRIPT.findall(text)) + 1
    assert "{{ 7*7 }}" in text
    assert "49" not in text[: text.index("<style>")]
    assert json.loads(dict(SCRIPT.findall(text))["chunk-0"])[0]["problem"].startswith(HOSTILE)


def test_the_page_is_offline() -> None:
    text = write_report(report(3))
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in text
    assert re.search(r"<(link|iframe|object|embed|img)\b|\bsrc=", text) is None


def test_chunks_hold_every_solution_once() -> None:
    text = write_report(report(2 * CHUNK))
    parts = dict(SCRIPT.findall(text))
    chunks = [json.loads(parts[f"chunk-{number}"]) for number in range(3)]
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 1]
    assert [item["id"] for chunk in chunks for item in chunk] == [*(f"r{n}" for n in range(2 * CHUNK)), "s0"]
    assert "chunk-3" not in parts


def test_index_columns() -> None:
    index = index_of([solution(0), solution(1), scored(0)])
    assert index["outcome"] == "rwu"
    assert index["unknown"] == [0, 1, 0]
    assert index["strip"] == ["cicc", "mnum", "0369"]
    assert index["peak"] == 0.75
    assert index["methods"] == ["TP-GRPO", "GRPO", ""]


def test_steps_that_no_judge_read_are_dashes() -> None:
    steps = tuple(dataclasses.replace(step, label=None, judged=False) for step in solution(0).steps)
    assert strip_of(dataclasses.replace(solution(0), steps=steps)) == "----"


def test_half_a_surrogate_pair_does_not_break_the_page() -> None:
    assert "a?" in write_report(dataclasses.replace(report(0), solutions=(solution(0, text="a\ud800"),)))


def test_script_json_keeps_what_it_says() -> None:
    value = {"text": "</script>\u2028\u2029<!--"}
    text = script_json(value)
    assert json.loads(text) == value
    assert "<" not in text
    assert "\u2028" not in text


def test_plots_are_drawn_and_follow_the_theme() -> None:
    text = write_report(report(0))
    assert text.count("<svg role=") == 1
    svg = plot_svg(report(0).plots[0], name="x")
    assert svg == plot_svg(report(0).plots[0], name="x")
    assert "currentColor" in svg
    assert "var(--rule-strong)" in svg
    assert "<metadata>" not in svg
    assert set(re.findall(r'\bid="(\w+)', svg)) == {"x"}


def test_without_matplotlib_a_sentence_stands_for_the_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "can_plot", lambda: False)
    text = write_report(report(0))
    assert "<svg role=" not in text
    assert "matplotlib is not installed" in text


def test_unknown_cells_are_dashes_and_intervals_are_text() -> None:
    text = write_report(report(0))
    assert "[0.400, 0.600]" in text
    assert 'title="unknown">–' in text
    assert "12,345" in text


def test_a_report_without_solutions_has_no_viewer() -> None:
    text = write_report(ReportData("empty"))
    assert 'id="solutions"' not in text
    assert 'id="chunk-0"' not in text


def test_terminal_shows_tables_verdicts_and_what_is_left_out() -> None:
    text = terminal(report(3), limit=2)
    assert "0.500 [0.400, 0.600]" in text
    assert "✗ wrong  answer 3  reference 2" in text
    assert "no reply could be read" in text
    assert "-0.250..+0.250" not in text
    assert "9 more solutions" in text
    assert "No difference is shown." in text


def test_terminal_text_is_not_markup() -> None:
    assert "[red]x[/red]" in terminal(dataclasses.replace(report(0), solutions=(solution(0, text="[red]x[/red]"),)))


def test_a_table_too_wide_for_the_terminal_is_shown_in_blocks_with_nothing_cut() -> None:
    heads = ("method", *(f"figure number {n}" for n in range(8)))
    rows = tuple((name, *(Estimate(n / 7, n / 8, n / 6) for n in range(8))) for name in ("GRPO", "a long name of it"))
    data = dataclasses.replace(report(0), tables=(TableView("wide", heads, rows, "a note"),))
    shown = terminal(data)
    assert "…" not in shown
    assert shown.count("figure number 7 1.000 [0.875, 1.167]") == 2
    assert shown.index("GRPO") < shown.index("figure number 7") < shown.index("a long name of it")
    console = Console(file=io.StringIO(), width=400, color_system=None)
    console.print(terminal_report(data))
    assert "│ a long name of it │" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [*range(24, 100), 120, 200])
def test_no_table_is_cut_at_the_edge_of_a_terminal(width: int) -> None:
    """At 80 characters the last column showed 3 for 3.8, and tables of long words lost their right border."""
    slice_of_gsm8k = TableView(
        "by model",
        ("model", "solutions", "right", "wrong", "unscorable", "judged", "steps each"),
        (("llama-3.1-8b-instruct of a long name", 1319, 1024, 290, 5, 1310, 3.8), ("other", 8, 8, 0, 0, 8, 12.25)),
    )
    words = TableView("doctor", ("what", "found", "mend"), (("extra", "missing: safetensors", "pip 'stepcredit[x]'"),))
    for table in (slice_of_gsm8k, words):
        console = Console(file=io.StringIO(), width=width, color_system=None)
        console.print(terminal_table(table))
        shown: str = console.file.getvalue()  # type: ignore[attr-defined]
        framed = [line for line in shown.splitlines() if line[:1] in "┏┃┡│└"]
        assert all(line[-1] in "┓┃┩│┘" for line in framed)
        assert all(len(line.rstrip()) <= width for line in shown.splitlines())
        for cell in ("1,319", "3.8", "12.25") if table is slice_of_gsm8k else ("safetensors", "'stepcredit[x]'"):
            assert cell in shown


def test_a_judge_has_its_name_and_bytes_are_not_called_tokens() -> None:
    """The terminal said `602 tokens` of 602 bytes, and a hash of 32 digits where the user had asked for `markers`."""
    digest = "d0af6e1b9c2f4a5d8e7b6c5d4e3f2a1b"
    view = dataclasses.replace(solution(0), judge=f"intrinsic:{digest}", tokens=1602, size_unit="byte")
    plain = dataclasses.replace(report(0), solutions=(view,))
    assert "1,602 bytes · intrinsic " in terminal(plain)
    asked = terminal(dataclasses.replace(plain, facts=(("judge", "markers"),)))
    assert "1,602 bytes · markers " in asked
    assert digest not in asked
    found = dict(SCRIPT.findall(write_report(plain)))
    assert json.loads(found["chunk-0"])[0]["unit"] == "byte"


def test_a_table_without_rows_is_not_shown() -> None:
    """A run of GRPO alone, which asks no judge, had an empty table of judges."""
    data = dataclasses.replace(
        report(0), tables=(TableView("Judges", ("judge", "agreement"), (), "On what is shown."),)
    )
    for shown in (terminal(data), write_report(data)):
        assert "On what is shown." not in shown
