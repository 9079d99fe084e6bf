"""Sentences of text with formulas."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.steps.sentences import formulas, sentence_starts

CASES = {
    "plain": (["One.", " Two!", " Three?", " Four"],),
    "decimals and prices": (["It costs $3.50 or $4.", " Then 2.5 more."],),
    "dollar formula": (["Let $a. B$ be.", " So $x = 1.$ Next."],),
    "round brackets": (["Let \\(a. B\\) be.", " Yes."],),
    "display over lines": (["Then\n", "\\[\na = 1. \\\\\nB\n\\]\n", "So."],),
    "environment": (["\\begin{align*}\na. B\n\\end{align*}\n", "So."],),
    "double dollars": (["$$a.\nB$$ is it.", " Yes."],),
    "abbreviations": (["See Eq. (2), i.e. This, vs. That.", " Next."],),
    "numbered list": (["1. First.\n", "2. Second.", " More."],),
    "step heading": (["Step 2. Add.", " Then go."],),
    "ellipsis before a small letter": (["Hmm... maybe.", " Yes."],),
    "quotes and bold": (['He said "no."', " **So.**", " Then."],),
    "chinese": (["加。", "然后。", "好"],),
    "blank lines go with the sentence before": (["One.\n\n", "Two."],),
    "indentation goes with its line": (["One:\n", "   - two"],),
}


@pytest.mark.parametrize("name", CASES)
def test_sentences(name):
    (parts,) = CASES[name]
    text = "".join(parts)
    cuts = [0, *sentence_starts(text), len(text)]
    assert [text[a:b] for a, b in pairwise(cuts)] == parts


def test_a_formula_that_is_never_closed_protects_nothing():
    assert formulas("a \\(b. C") == []
    assert formulas("\\[ a\n\nb \\]") == []
    assert len(sentence_starts("It is \\(b. See. Go.")) == 2


def test_escapes_are_no_delimiters():
    assert formulas(r"\$a$ and \\(b\)") == []


@given(
    st.lists(
        st.sampled_from(
            ["a", "B", ". ", "$", "$$", "\\(", "\\)", "\\[", "\\]", "\n", "\n\n", "3.", "\\begin{x}", "\\end{x}"]
        )
    ).map("".join)
)
def test_cuts_rise_and_lie_outside_formulas(text: str):
    cuts, ranges = sentence_starts(text), formulas(text)
    assert all(a < b for a, b in pairwise([0, *cuts]))
    assert all(a < b for a, b in ranges)
    assert all(a[1] <= b[0] for a, b in pairwise(ranges))
    assert all(not a < cut < b for cut in cuts for a, b in ranges)
