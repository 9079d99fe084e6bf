"""Protocol labels and the scores they carry: what every judge of labels says in the same words."""

from stepcredit.core.records import Label, Verdict

LABEL_SCORE: dict[Label, float | None] = {
    Label.CORRECT: 1.0,
    Label.INCORRECT: 0.0,
    Label.MATCHED: 0.0,
    Label.MISMATCHED: None,
}
"""Binary score of a label. `matched` counts as wrong; `mismatched` is exploration of unknown worth (tp_grpo.md 1.4)."""

UNSCORABLE = "the outcome is unscorable"
"""How the reason begins where a rollout has no outcome: a judge cannot be asked about it."""

UNMATCHABLE = "no answer block to match"
"""How the reason ends where a wrong solution has no answer block: answer matching cannot be asked about it."""

OPPOSITE: dict[Label, Label] = {
    Label.CORRECT: Label.INCORRECT,
    Label.INCORRECT: Label.CORRECT,
    Label.MATCHED: Label.MISMATCHED,
    Label.MISMATCHED: Label.MATCHED,
}
"""The other label of the same protocol."""


def labelled(label: Label, *, reason: str = "", calls: tuple[str, ...] = ()) -> Verdict:
    """Verdict of a label with its score.

    >>> labelled(Label.MISMATCHED).score is None, labelled(Label.MISMATCHED).known
    (True, True)
    """
    return Verdict(LABEL_SCORE[label], label, reason, calls)


def unknown(count: int, reason: str, *, calls: tuple[str, ...] = ()) -> tuple[Verdict, ...]:
    """[count] unknown verdicts for one reason.

    >>> unknown(2, "no answer block")[1].reason
    'no answer block'
    """
    return (Verdict(reason=reason, calls=calls),) * count
