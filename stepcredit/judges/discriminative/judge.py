"""The discriminative judge: one forward pass over a solution, one probability a step."""

from typing import final

import numpy as np
from jaxtyping import Float, Float32

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.judge_parts import TokenClassifier
from stepcredit.core.protocols import Scale
from stepcredit.core.records import Steps, Verdict
from stepcredit.judges.discriminative.formats import Asked, StepFormat


@final
class DiscriminativeJudge:
    """Scores every step by the probability that a reward model gives it at the token that ends it.

    Reads neither the outcome nor the reference answer. Blank steps are not shown to the model and are unknown. What
    does not fit the model's context is cut off at its end: steps that end inside are scored as ever, for the model
    reads from left to right; later ones are unknown.

    Args:
        classifier: the reward model.
        form: how it is asked.
        signed: True scores by p(right) - p(wrong) instead of p(right), the scale of PURE's rewards.

    Raises:
        UsageError: if the model has not two classes.

    Source: Lightman et al. 2023, arXiv:2305.20050; formats as `formats` names them; signed: arXiv:2504.15275,
    credit.md 2.2. Differs: none.
    """

    def __init__(self, classifier: TokenClassifier, form: StepFormat, *, signed: bool = False) -> None:
        if classifier.classes != 2:
            raise UsageError(f"the judge needs a model with 2 classes, right and wrong, got {classifier.classes}")
        self._classifier, self._form, self._signed = classifier, form, signed

    @property
    def fingerprint(self) -> str:
        """Format, scale and the model's fingerprint."""
        return f"discriminative:{digest(self._form.fingerprint, self._signed, self._classifier.fingerprint)}"

    @property
    def scale(self) -> Scale:
        """A probability, or signed."""
        return Scale.SIGNED if self._signed else Scale.PROBABILITY

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            JudgeError: if the model failed; carries the rollout id.
            BudgetError: if a limit on calls or cost is reached.
        """
        shown = [k for k, text in enumerate(steps.texts) if text.strip()]
        verdicts = [Verdict(reason="the step is blank") for _ in range(len(steps))]
        if not shown:
            return tuple(verdicts)
        asked = self._form.ask(steps.rollout.problem.text, [steps.texts[k] for k in shown])
        if asked is None:
            found = [Verdict(reason="the tokenizer does not give back the text that it read")] * len(shown)
        else:
            try:
                found = await self._read(asked)
            except EngineError as error:
                raise JudgeError(f"the reward model failed: {error}", item=steps.rollout.id) from error
        for k, verdict in zip(shown, found, strict=True):
            verdicts[k] = verdict
        return tuple(verdicts)

    async def _read(self, asked: Asked) -> list[Verdict]:
        context = await self._classifier.context()
        fits = len(asked.ids) if context is None else min(context, len(asked.ids))
        places = asked.places
        readable = (places >= 0) & (places < fits)
        scores = np.full(len(places), np.nan)
        calls: tuple[str, ...] = ()
        if readable.any():
            wanted = places[readable]
            # The rest of a prompt that fits is sent too: a server's cache may know the whole of it.
            found = await self._classifier.classify(asked.ids[:fits], wanted)
            scores[readable] = probability(found.values, positive=self._form.positive)
            calls = found.calls
        return [
            self._verdict(float(score), int(place), context, calls) for score, place in zip(scores, places, strict=True)
        ]

    def _verdict(self, score: float, place: int, context: int | None, calls: tuple[str, ...]) -> Verdict:
        if place < 0:
            return Verdict(reason="the tokenizer does not end the step where its mark stands")
        if context is not None and place >= context:
            return Verdict(reason=f"the step ends at token {place + 1}, the model reads {context}")
        if np.isnan(score):
            return Verdict(reason="the model gave no number for the step", calls=calls)
        return Verdict(2.0 * score - 1.0 if self._signed else score, calls=calls)


def probability(logits: Float32[np.ndarray, "P C"], *, positive: int) -> Float[np.ndarray, " P"]:
    """[P] softmax of each row at one class; NaN where a row has NaN or nothing finite.

    Args:
        logits: [P, C], at least two classes; -inf is a probability of 0.
        positive: index of the class.

    >>> probability(np.log(np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)), positive=1)
    array([0.75, 0.5 ])
    """
    rows = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers[:, positive] / powers.sum(axis=1)
