"""Settings of the GenPRM judge and its two published ways of asking."""

from dataclasses import dataclass
from typing import Literal, final

from stepcredit.core.errors import UsageError

Mode = Literal["full", "analyze", "verify", "direct"]
"""What the model writes before its verdict: analysis and code, the analysis, the code, or nothing."""

FirstTurn = Literal["question", "newline", "none"]
"""How the first user turn joins problem and step (genprm.md 4.1)."""

AssistantOpen = Literal["off", "on"]
"""Whether the turn that is written is opened by the template's generation prompt (genprm.md 4.1)."""

RewardSource = Literal["raw", "reference_v0", "hard"]
"""What a step's score is made from (genprm.md 4.4)."""


@final
@dataclass(frozen=True)
class GenPrmSettings:
    """How GenPRM is asked.

    Args:
        mode: `None` is `full` where a code runner is given, `analyze` otherwise.
        execute: False lets the model imagine what its code prints (`full` and `verify`).
        first_turn: `question` as in training, `newline` as in the released ProcessBench scripts, `none`.
        assistant_open: `on` adds the template's generation prompt, without a think tag.
        bos: beginning-of-sequence tokens; the reference runs had 2.
        reward_source: `raw`, `reference_v0` or `hard`.
        passes: N of Maj@N: independent passes over the whole solution, each with its own seeds and history.
        early_stop: True ends after the first step whose score is below 0.5.
        seed: the run's seed.
        temperature: of the written text, and of `reference_v0`.
        top_p: of the written text, and of `reference_v0`.
        top_k: of the written text, and of `reference_v0`.
        step_tokens: bound on an analysis, and on a whole turn with its code and code outputs.
        verdict_tokens: bound on a verdict that is written after the forced opening.
        rounds: pieces with code that a step may have before its code is dropped.
        context_tokens: tokens that the model can hold, prompt and text together.
        feedback_chars: characters of code output that are shown; the middle of a longer one is cut.

    Raises:
        UsageError: for a value outside its range, or `reference_v0` at temperature 0.

    Source: GenPRM, arXiv:2504.00891, genprm.md 4.1-4.5. Differs: `feedback_chars` (the reference shows all).
    """

    mode: Mode | None = None
    execute: bool = True
    first_turn: FirstTurn = "question"
    assistant_open: AssistantOpen = "on"
    bos: Literal[1, 2] = 1
    reward_source: RewardSource = "raw"
    passes: int = 1
    early_stop: bool = False
    seed: int = 0
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 20
    step_tokens: int = 2048
    verdict_tokens: int = 20
    rounds: int = 3
    context_tokens: int = 16384
    feedback_chars: int = 2000

    def __post_init__(self) -> None:
        for name in ("passes", "step_tokens", "verdict_tokens", "rounds", "context_tokens", "feedback_chars"):
            if getattr(self, name) < 1:
                raise UsageError(f"GenPRM needs {name} of at least 1, got {getattr(self, name)}")
        if self.bos not in (1, 2):
            raise UsageError(f"GenPRM takes 1 or 2 beginning-of-sequence tokens, got {self.bos}")
        if self.temperature < 0 or (self.reward_source == "reference_v0" and self.temperature == 0):
            raise UsageError(f"temperature {self.temperature} cannot be used with reward_source {self.reward_source!r}")
        if not 0 < self.top_p <= 1 or not (self.top_k == -1 or self.top_k > 0):
            raise UsageError(f"top_p must be in (0, 1] and top_k -1 or positive, got {self.top_p} and {self.top_k}")


PROFILES: dict[str, GenPrmSettings] = {
    "training": GenPrmSettings(),
    "reference": GenPrmSettings(first_turn="newline", assistant_open="off", bos=2, reward_source="reference_v0"),
}
"""Settings by profile (genprm.md 11): as the model was trained, and as the released scripts ask it."""
