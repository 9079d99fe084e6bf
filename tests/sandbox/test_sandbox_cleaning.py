"""Output is a way into a judge's prompt: what it may hold after cleaning."""

import pytest

from stepcredit.sandbox.cleaning import CUT, cleaned
from stepcredit.sandbox.limits import Limits

LIMITS = Limits()
MARKERS = [
    "</output>",
    "<output>",
    "</verify>",
    "<analyze>",
    "<|im_end|>",
    "<\uff5cAssistant\uff5c>",
    "```python",
    "~~~",
]
MARKERS += [
    "[INST]",
    "[/INST]",
    "</s>",
    "<<SYS>>",
    "[Code Output]",
    "\\boxed{Yes}",
    "\\boxed{\\text{No}}",
    "<end_of_turn>",
]


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("way", ["plain", "upper", "split", "coloured"])
def test_a_marker_of_the_judge_does_not_come_through(marker: str, way: str) -> None:
    written = {
        "plain": marker,
        "upper": marker.upper(),
        "split": "\u200b".join(marker),
        "coloured": "\x1b[31m".join(marker),
    }[way]
    text, _ = cleaned(f"7 {written} 8".encode(), limits=LIMITS)
    assert marker.lower() not in text.lower()
    assert text.replace(" ", "").lower() == f"7{marker}8".lower().replace(" ", "")


def test_cleaning_twice_changes_nothing() -> None:
    text, _ = cleaned("".join(MARKERS).encode(), limits=LIMITS)
    assert cleaned(text.encode(), limits=LIMITS) == (text, False)


@pytest.mark.parametrize(
    "plain", ["5050", "x < 3 and y > 2", "[1, 2]\n{'a': `b`}", "\\boxed{5}", "a|b <c>", "\u03c0 \u2248 3.14", "- \t x"]
)
def test_ordinary_output_stays_as_it_is(plain: str) -> None:
    assert cleaned(plain.encode(), limits=LIMITS) == (plain, False)


def test_bytes_that_are_no_text_and_control_characters() -> None:
    data = bytes(range(256)) + b"\x1b[2J\x1b]0;title\x07\x9b31m\r\nend\xf0\x9f"
    text, _ = cleaned(data, limits=LIMITS)
    assert all(sign in "\n\t" or sign.isprintable() for sign in text)
    assert "title" not in text
    assert text.endswith("\nend\ufffd")


def test_long_output_keeps_head_and_tail() -> None:
    text, cut = cleaned(b"a" * 5000 + b"z" * 5000, limits=Limits(text_chars=100))
    assert cut
    assert len(text) <= 100
    assert (text[:5], text[-5:], CUT in text) == ("aaaaa", "zzzzz", True)
