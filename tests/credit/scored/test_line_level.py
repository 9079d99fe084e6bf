"""Line-level rewards for code: over the number of lines, comments neutral."""

from dataclasses import replace

import numpy as np
import pytest

from stepcredit.core.errors import CreditError
from stepcredit.core.layout import Layout
from stepcredit.core.records import Outcome, Problem, Rollout, Steps
from stepcredit.credit.scored.line_level import LineLevelSettings, comment_lines, line_level

LAYOUT = Layout(np.array([0, 0, 1, 2, 3, 4]), np.array([0, 0, 1, 1, 1]), np.zeros(2))
REWARDS = np.array([1.0, -1.0])
SCORES = np.array([1.0, 1.0, 1.0, -1.0, -1.0])
SIGNED = LineLevelSettings(score_scale="signed")


def lines_of(text: str) -> Steps:
    """A rollout of one token a character, cut behind every line end."""
    ids = np.arange(len(text))
    rollout = Rollout("g/0", Problem("g", "?", "1"), "g", 0, text, np.zeros(0), ids, ids)
    starts = [0] + [i + 1 for i, c in enumerate(text[:-1]) if c == "\n"]
    return Steps(Outcome(rollout, "right"), np.array(starts), "line", np.zeros(len(starts), np.bool_), closed=False)


def test_line_level_by_hand():
    got = line_level(LAYOUT, REWARDS, SCORES, settings=SIGNED)
    np.testing.assert_allclose(got, [2.0, 2.0, 1.5, -1.0 - 1 / 3, -1.0 - 2 / 3, -1.0 - 1 / 3], rtol=1e-6)
    assert got.dtype == np.float32
    half = line_level(LAYOUT, REWARDS, SCORES, settings=replace(SIGNED, process_weight=0.5))
    np.testing.assert_allclose(half, [1.5, 1.5, 1.25, -1.0 - 1 / 6, -1.0 - 1 / 3, -1.0 - 1 / 6], rtol=1e-6)


def test_verdicts_are_probabilities_by_default_and_a_wrong_line_costs_what_a_right_one_earns():
    """credit.md 2.9: labels +1 and -1; with 0 a wrong line would cost no more than a comment."""
    verdicts = (SCORES + 1.0) / 2.0
    got = line_level(LAYOUT, REWARDS, verdicts, settings=LineLevelSettings())
    np.testing.assert_array_equal(got, line_level(LAYOUT, REWARDS, SCORES, settings=SIGNED))
    with pytest.raises(CreditError, match="give score_scale = 'signed'"):
        line_level(LAYOUT, REWARDS, SCORES, settings=LineLevelSettings())


def test_padding_with_lines_of_the_same_score_earns_nothing():
    """Without the division by L every line more is paid (credit.md 2.9)."""
    first = []
    for lines in (2, 4, 16):
        layout = Layout(np.arange(lines + 1), np.append(np.zeros(lines), 1), np.zeros(2))
        scores = np.append(np.full(lines, 0.8), 0.0)
        first.append(line_level(layout, REWARDS, scores, settings=SIGNED)[0])
    np.testing.assert_allclose(first, 1.8, rtol=1e-6)


def test_comment_lines_earn_nothing_whatever_their_score():
    comment = np.array([0, 1, 0, 0, 0])
    by_score = line_level(LAYOUT, REWARDS, SCORES * (1 - comment), settings=SIGNED)
    for score in (1.0, -1.0, np.nan):
        scores = np.where(comment == 1, score, SCORES)
        got = line_level(LAYOUT, REWARDS, scores, settings=SIGNED, neutral=comment)
        np.testing.assert_array_equal(got, by_score)


def test_padding_with_comments_changes_nothing_where_only_judged_lines_are_counted():
    made = replace(SIGNED, lines="judged")
    first = []
    for comments in (0, 1, 7):
        layout = Layout(np.arange(comments + 3), np.append(np.zeros(comments + 2), 1), np.zeros(2))
        neutral = np.concatenate([[0], np.ones(comments), [0, 0]])
        scores = np.where(neutral == 1, 1.0, -0.5)
        first.append(line_level(layout, REWARDS, scores, settings=made, neutral=neutral)[0])
    np.testing.assert_allclose(first, 0.5, rtol=1e-6)
    everything = line_level(LAYOUT, REWARDS, SCORES, settings=made, neutral=np.ones(5))
    np.testing.assert_array_equal(everything, [1, 1, 1, -1, -1, -1])


def test_comment_lines_are_told_by_their_text():
    steps = lines_of("# sum\nx = 1  # one\n   \n  # two\n\ny = '# no'\n")
    assert steps.texts[0] == "# sum\n"
    assert comment_lines([steps]).tolist() == [True, False, True, True, True, False]
    assert comment_lines([lines_of("// a\nint x;\n# define\n")], marks=("//",)).tolist() == [True, False, False]
    assert comment_lines([lines_of("# a\n"), lines_of("b\n")]).tolist() == [True, False]
    assert comment_lines([lines_of("# a\n\n"), lines_of("# a\nb\n")], marks=()).tolist() == [False, True, False, False]


def test_a_line_that_holds_a_comment_and_code_behind_it_is_code():
    """The splitter takes blank lines along: a comment before code is one only if it stands alone."""
    steps = lines_of("# a\n\nx = 1\n")
    whole = Steps(steps.outcome, np.zeros(1), "whole", np.zeros(1, np.bool_), closed=False)
    assert comment_lines([whole]).tolist() == [False]


def test_an_unscored_line_drops_the_rollout_or_earns_nothing():
    scores = np.array([1.0, np.nan, 1.0, -1.0, -1.0])
    got = line_level(LAYOUT, REWARDS, scores, settings=SIGNED)
    assert np.isnan(got[:3]).all()
    assert np.isfinite(got[3:]).all()
    kept = line_level(LAYOUT, REWARDS, scores, settings=replace(SIGNED, on_unknown="neutral"))
    np.testing.assert_allclose(kept[:3], [1.5, 1.5, 1.0])


def test_columns_of_the_wrong_length_are_refused():
    with pytest.raises(CreditError, match="neutral: got 2 entries, the layout has 5"):
        line_level(LAYOUT, REWARDS, SCORES, settings=SIGNED, neutral=np.zeros(2))
