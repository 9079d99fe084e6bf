"""Views made for tests: small solutions with every kind of label, score, outcome and credit."""

from stepcredit.core.protocols import Scale
from stepcredit.core.rationales import Passage, Rationale
from stepcredit.core.records import Label
from stepcredit.report import (
    Estimate,
    PieceView,
    PlotView,
    ReportData,
    RolloutView,
    RuleView,
    SeriesView,
    StepView,
    TableView,
    VotesView,
)

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028<b>&amp;'\"{{ 7*7 }}"

RIGHT = (Label.CORRECT, Label.INCORRECT, Label.CORRECT, Label.CORRECT)
WRONG = (Label.MATCHED, Label.MISMATCHED, None, Label.MATCHED)


def solution(number: int, *, text: str = "a step", problem: str = "What is 1 + 1?") -> RolloutView:
    right = number % 2 == 0
    labels = RIGHT if right else WRONG
    steps = tuple(
        StepView(
            (
                PieceView(f"{text} {number}.{place} ", 3, (0.75 - place / 2, 0.75)),
                PieceView("end\n\n", 1, (None, 0.75)),
            ),
            label,
            None,
            "" if label else "no reply could be read",
            in_answer=place == 3,
        )
        for place, label in enumerate(labels)
    )
    return RolloutView(
        id=f"r{number}",
        problem=f"{problem} ({number // 4})",
        problem_id=f"p{number // 4}",
        reference="2",
        answer="2" if right else "3",
        outcome="right" if right else "wrong",
        outcome_reason="",
        steps=steps,
        rules=(RuleView("tp_grpo", kept=right, note="" if right else "unknown verdict"), RuleView("grpo")),
        method=("GRPO", "TP-GRPO")[number % 3 == 0],
        round=number % 5,
        judge="markers",
        tokens=16,
    )


def scored(number: int) -> RolloutView:
    steps = tuple(StepView((PieceView(f"part {k} ", 2),), None, k / 3, "because") for k in range(4))
    return RolloutView(
        f"s{number}",
        "Scored?",
        f"q{number}",
        None,
        None,
        "unscorable",
        "no reference",
        steps,
        scale=Scale.PROBABILITY,
        tokens=8,
    )


def told(number: int, *, text: str = "I look at the step.", labelled: bool = True) -> RolloutView:
    """Four steps scored by three passes that wrote, ran code, and disagree with the label of step 2 in each other."""
    scores = ((0.9, 0.8, 0.7), (0.9, 0.1, 0.8), (0.2, 0.1, 0.3), (0.9, 0.9, 0.9))
    truth = (True, True, number % 2 == 1, None) if labelled else (None,) * 4
    steps = tuple(
        StepView(
            (PieceView(f"part {k} of {number} ", 3),),
            None,
            sum(votes) / 3,
            votes=VotesView(3, sum(v < 0.5 for v in votes), min(votes), sum(votes) / 3, max(votes)),
            truth=label,
            called=sum(votes) / 3 >= 0.5 if labelled else None,
        )
        for k, (votes, label) in enumerate(zip(scores, truth, strict=True))
    )
    passes = tuple(
        Rationale(
            f"pass {vote + 1}",
            k,
            (scores[k][vote],),
            (
                Passage("forced", "<analyze>", k),
                Passage("written", f"{text} {number}.{k}.{vote}", k),
                Passage("code", f"print('{text}')", k),
                Passage("output", text, k, "error" if vote else "ok"),
            ),
            f"Yes {text}",
            "" if vote else f"leaks {text}",
        )
        for vote in range(3)
        for k in range(4)
    )
    whole = Rationale("reply 1", 0, (), (Passage("written", f"{text} as a whole"),))
    return RolloutView(
        f"t{number}",
        "Told?",
        f"t{number}",
        None,
        None,
        "unscorable",
        "no reference",
        steps,
        judge="genprm",
        scale=Scale.PROBABILITY,
        tokens=12,
        rationales=(whole, *passes),
    )


def report(count: int, **changes: str) -> ReportData:
    table = TableView(
        "Methods",
        ("method", "accuracy", "tokens"),
        (("GRPO", Estimate(0.5, 0.4, 0.6), 1234), ("none", None, 1.5)),
        "Wilson.",
    )
    curve = SeriesView("GRPO", (0.0, 1.0, 2.0), (0.1, 0.2, 0.4), (0.0, 0.1, 0.3), (0.2, 0.3, 0.5))
    return ReportData(
        title="a run",
        subtitle="for tests",
        facts=(("policy", "tiny"),),
        counts=(("rollouts", 12345), ("unknown", 3)),
        tables=(table,),
        plots=(PlotView("Accuracy", "rollouts", "share", (curve,), (0.0, 1.0)),),
        closing="No difference is shown.",
        solutions=(*(solution(number, **changes) for number in range(count)), scored(0)),
        omitted=7,
    )
