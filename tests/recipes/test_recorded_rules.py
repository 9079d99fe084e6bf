"""Credit of recorded solutions by rules that read more than outcomes and verdicts, where a file has what they read."""

from pathlib import Path

import numpy as np
import pytest
from recorded_cases import RIGHT, WRONG, byte_level, row, write_rows
from test_judge_outcome import reply

from stepcredit.core.errors import UsageError
from stepcredit.recipes.recorded.credit import columns_of
from stepcredit.recipes.recorded.run import run_recorded
from stepcredit.recipes.recorded.settings import RecordedSettings, load_recorded, rule_settings
from stepcredit.testing import ScriptedServer


def asked(out: Path, credit: str, *overrides: str, **more: object) -> RecordedSettings:
    tokenizer = byte_level(out.parent / "tokenizer")
    words = ("checker.mode=string", "credit.keep=all", *overrides)
    return RecordedSettings(out, tokenizer=tokenizer, credit=credit, overrides=words, **more)  # type: ignore[arg-type]


def first_advantages(file: Path, settings: RecordedSettings) -> list[float]:
    result = run_recorded(file, settings)
    assert result.credited is not None
    assert columns_of(result.credited.credits)["kept"].all()
    return [float(credit.advantages[0]) for credit in result.credited.credits]


def test_rlsp_pays_recorded_solutions_for_their_length(tmp_path: Path) -> None:
    """Both right: the outcomes say nothing, and the longer one has the better bonus."""
    long = RIGHT.replace("\n\n", "\n\nLet me look at this once more, slowly, before I go on.\n\n", 1)
    assert len(long) > len(RIGHT)
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="short", model="m"), row(long, name="long", model="m"))
    settings = asked(tmp_path / "run", "rlsp", "credit.exploration_scale=10.0", "credit.settings.std=population")
    np.testing.assert_allclose(first_advantages(file, settings), [-1.0, 1.0], atol=1e-6)


def test_spct_pays_recorded_solutions_what_its_judge_voted(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="a", model="m"), row(WRONG, name="b", model="n"))
    with ScriptedServer(reply=reply) as server:
        more = {"judge": "spct", "server": server.url}
        found = first_advantages(file, asked(tmp_path / "run", "spct", "spct.votes=2", **more))
    np.testing.assert_allclose(found, [1.0, -1.0], atol=1e-6)


def test_comment_lines_of_recorded_code_earn_nothing(tmp_path: Path) -> None:
    """credit.md 2.9: with comments that earn, a policy pads them. The judge finds every line right, the comment too."""
    code = "# Rows of apples come first.\n\nrows = 3 * 4 = 12 apples.\n</think>\n\nSo it is \\boxed{19}."
    file = write_rows(tmp_path / "x.jsonl", row(code, name="a", model="m"), row(WRONG, name="b", model="m"))

    def all_right(asked_for: object) -> str:
        steps = str(asked_for).count("</step_")
        return "<verdicts>\n" + "".join(f"{k}: yes\n" for k in range(steps)) + "</verdicts>"

    with ScriptedServer(reply=all_right) as server:
        more = {"judge": "step-critic", "server": server.url}
        settings = asked(tmp_path / "run", "line_level", "steps.splitter=newline", **more)
        result = run_recorded(file, settings)
    assert result.credited is not None
    first, *_ = result.credited.credits
    levels = np.unique(first.advantages)
    assert first.judgement is not None
    assert len(levels) == len(first.steps) - 1
    assert "neutral" in first.signals


@pytest.mark.parametrize(
    ("rule", "overrides", "told"),
    [
        ("rloo", ("credit.settings.eta=3.0",), "credit.settings.eta is no setting of rloo"),
        ("grpo", ("credit.std=none", 'credit.settings.std="none"'), "credit.std and credit.settings.std are both set"),
        ("grpo", ("credit.exploration_scale=3.0",), "rule grpo reads no bonus"),
        ("rlsp", ('credit.settings.baseline="critic"',), "rlsp reads values, and recorded solutions have none"),
        ("rlsp", ("credit.settings.creativity=0.2",), "rlsp reads outcome_scores, and recorded solutions have none"),
    ],
)
def test_settings_that_cannot_be_had_are_refused(rule: str, overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        rule_settings(rule, load_recorded(overrides).credit)


def test_think_rm_s_pairs_are_no_signal_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="for credit take --credit spct, or --judge markers or critic"):
        asked(tmp_path / "run", "think_rm", judge="think-rm", server="http://127.0.0.1:9/v1")
