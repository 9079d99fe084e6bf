"""Settings of a walk over recorded solutions: what the command line asks for, and the schema of `recorded.toml`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, final, get_args

from pydantic import Field

from stepcredit.core.errors import UsageError
from stepcredit.credit import rule_named
from stepcredit.credit.choices import check_choice, nearest
from stepcredit.credit.keep import Keep
from stepcredit.credit.rule import RECORDED, Need
from stepcredit.judges.intrinsic.prompts import SplitPrompt, TracePrompt
from stepcredit.judges.intrinsic.server import Fences, Structured, Thinking
from stepcredit.recipes.arm_rules.settings import Setting
from stepcredit.recipes.loading import Section, load_recipe
from stepcredit.recipes.recorded.code_running import SandboxPart
from stepcredit.recipes.recorded.outcome_parts import OUTCOME, SpctPart, ThinkRmPart
from stepcredit.recipes.recorded.scoring import DiscriminativePart, check_scoring
from stepcredit.recipes.recorded.wrapping import BudgetPart, CalibrationPart
from stepcredit.recipes.recorded.writing_parts import WRITING, GenPrmPart, ThinkPRMPart

Stage = Literal["check", "split", "judge", "credit"]
GroupBy = Literal["problem-and-model", "problem"]
FileJudge = Literal[
    "markers", "critic", "step-critic", "intrinsic", "thinkprm", "genprm", "discriminative", "think-rm", "spct"
]

STAGES: tuple[str, ...] = get_args(Stage)
ASKS_MODEL = ("critic", "step-critic", "intrinsic", *WRITING, *OUTCOME)
"""Judges that ask a server."""

IN_A_FILE = (*RECORDED, Need.BONUS)
"""Signals that recorded solutions have, or that can be made of their text; whole scores come with a judge of them."""

OWN = ("keep", "settings", "exploration_scale")
"""Keys of `[credit]` that are no settings of a rule."""

LABELS = ("markers", "intrinsic")
"""Judges that give labels, and some steps no score."""

RECIPE = Path(__file__).parents[1] / "recorded.toml"


class StepsPart(Section):
    """`[steps]`: the splitter and its own settings; lines that bring `steps` are cut as they say."""

    splitter: str
    form: str | None = None
    short: int | None = None
    long: int | None = None
    lines: bool | None = None
    word: str | None = None
    size: int | None = None
    by_block: bool | None = None


class CheckerPart(Section):
    """`[checker]`: `auto` compares formulas with math-verify where it is installed, else text and numbers only.

    `timeout_s` is what one comparison may take, `retry_timeout_s` what it may take when it is tried once more, alone,
    because it took longer (0: it is not).
    """

    mode: Literal["auto", "math", "string"]
    cut: Literal["wrong", "unscorable"] | None = None
    timeout_s: float | None = Field(gt=0, default=None)
    retry_timeout_s: float | None = Field(ge=0, default=None)
    workers: int | None = Field(ge=1, default=None)


class JudgePart(Section):
    """`[judge]`: `merged`, `retries` of `markers`; `max_tokens`, `temperature`, `seed`, `votes` of `critic`.

    `step-critic` has `variant` (`each`, `index` or `reason`), `max_tokens`, `temperature` and `seed`.

    `intrinsic` has all of these and those below: `decompose = false` keeps the splitter's steps, `split_prompt` and
    `trace_prompt` choose how it is asked; the others are explained in stepcredit/judges/intrinsic/server.py.
    """

    merged: bool | None = None
    retries: int | None = Field(ge=0, default=None)
    max_tokens: int | None = Field(ge=1, default=None)
    temperature: float | None = Field(ge=0, default=None)
    seed: int | None = None
    votes: int | None = Field(ge=1, default=None)
    variant: Literal["each", "index", "reason"] | None = None
    decompose: bool | None = None
    retry_temperature: float | None = Field(ge=0, default=None)
    split_prompt: SplitPrompt | None = None
    trace_prompt: TracePrompt | None = None
    structured: Structured | None = None
    thinking: Thinking | None = None
    fences: Fences | None = None


class ServerPart(Section):
    """`[server]`: limits and waits of the client, and what calls may cost (prices are for a million tokens)."""

    key_variable: str | None = None
    max_in_flight: int | None = Field(ge=1, default=None)
    max_tries: int | None = Field(ge=1, default=None)
    deadline_s: float | None = Field(gt=0, default=None)
    first_byte_s: float | None = Field(gt=0, default=None)
    idle_s: float | None = Field(gt=0, default=None)
    connect_s: float | None = Field(gt=0, default=None)
    backoff_s: float | None = Field(gt=0, default=None)
    backoff_cap_s: float | None = Field(gt=0, default=None)
    retry_after_cap_s: float | None = Field(gt=0, default=None)
    max_calls: int | None = Field(ge=1, default=None)
    max_cost: float | None = Field(gt=0, default=None)
    input_price: float | None = Field(ge=0, default=None)
    output_price: float | None = Field(ge=0, default=None)


class CreditPart(Section):
    """`[credit]`: the keep rule, and settings of the credit rule (see the rule's settings class).

    Those that most rules share are keys here; any setting of any rule can stand in `settings`. `exploration_scale` is
    that of the bonus, for a rule that takes one.
    """

    keep: Keep
    settings: Mapping[str, Setting] = {}
    exploration_scale: float = Field(gt=0, default=1000.0)
    process_weight: float | None = None
    alpha: float | None = None
    scale: str | None = None
    sides: str | None = None
    incorrect_relief: str | None = None
    std: str | None = None
    epsilon: float | None = None
    on_unknown: str | None = None
    unit: str | None = None


class ReportPart(Section):
    """`[report]`: most solutions, and most characters of their texts, that the step viewer holds.

    `rationales`: most characters of what the judge wrote about these; 0 shows none of it.
    """

    solutions: int = Field(ge=0)
    characters: int = Field(ge=0)
    rationales: int = Field(ge=0, default=20_000_000)


class LimitsPart(Section):
    """`[limits]`: when a solution is left out, and how many unreadable replies are too many.

    `deaths`: deaths of the process and failures of the judge after which a solution is left out; 0 for never, and 2
    at least to tell the guilty from those beside it. `warn_unknown`, `stop_unknown`: shares of solutions without a
    readable reply of a model; the second ends the walk once `unknown_from` were asked.
    """

    deaths: int = Field(ge=0)
    warn_unknown: float = Field(ge=0, le=1)
    stop_unknown: float = Field(ge=0, le=1)
    unknown_from: int = Field(ge=1)


class RecordedRecipe(Section):
    """The whole of `recorded.toml`."""

    steps: StepsPart
    checker: CheckerPart
    judge: JudgePart = JudgePart()
    thinkprm: ThinkPRMPart = ThinkPRMPart()
    genprm: GenPrmPart = GenPrmPart()
    discriminative: DiscriminativePart = DiscriminativePart()
    think_rm: ThinkRmPart = ThinkRmPart()
    spct: SpctPart = SpctPart()
    sandbox: SandboxPart = SandboxPart()
    server: ServerPart = ServerPart()
    budget: BudgetPart = BudgetPart()
    calibration: CalibrationPart = CalibrationPart()
    limits: LimitsPart
    credit: CreditPart
    report: ReportPart


@final
@dataclass(frozen=True)
class RecordedSettings:
    """What a walk over recorded solutions is asked to do.

    Args:
        out: run folder.
        judge: `markers` needs no model; `critic`, `step-critic` and `intrinsic` ask the chat server; `thinkprm` and
            `genprm` go on with token ids; `discriminative` reads by a reward model, here or on the server; `think-rm`
            and `spct` ask the chat server for a score of each whole solution.
        credit: name of the credit rule.
        until: last stage to walk.
        tokenizer: folder or file of a tokenizer; needed for credit. Without it a token is a byte.
        group_by: which solutions are compared with one another; `think-rm` and `spct` compare those of one problem.
        server: address of an OpenAI-style server.
        model: name of the model there; `None` takes the only one.
        recipe: TOML file, or the name of a recipe that ships.
        overrides: `section.key=value`, applied to the recipe.
        max_calls: most requests to the server over all sessions of the run; `None` takes the recipe's.
        max_cost: most cost over all sessions; needs prices in `[server]`; `None` takes the recipe's.
        skip_bad: leave out lines of the file that cannot be used, and count them, instead of refusing the file.
        judge_tokenizer: folder or hub id of the judge's model, for its tokenizer and chat template.

    Raises:
        UsageError: for an unknown choice, or choices that do not go together.
    """

    out: Path
    judge: FileJudge = "markers"
    credit: str = "tp_grpo"
    until: Stage = "credit"
    tokenizer: Path | None = None
    group_by: GroupBy = "problem-and-model"
    server: str | None = None
    model: str | None = None
    recipe: Path = RECIPE
    overrides: tuple[str, ...] = ()
    max_calls: int | None = None
    max_cost: float | None = None
    skip_bad: bool = False
    judge_tokenizer: str | None = None

    def __post_init__(self) -> None:
        check_choice("until", self.until, Stage)
        check_choice("group_by", self.group_by, GroupBy)
        check_judge(self.judge, self.server, self.model, self.judge_tokenizer)
        if self.until != "credit":
            return
        rule = rule_named(self.credit)
        if self.scores_whole and Need.OUTCOME_SCORES not in rule.needs:
            mend = "`stepcredit judge` gives these scores; for credit take --credit spct, or --judge markers or critic"
            raise UsageError(f"credit goes to steps, and judge {self.judge} scores whole solutions; {mend}")
        has = (*IN_A_FILE, Need.OUTCOME_SCORES) if self.scores_whole else IN_A_FILE
        beyond = [str(need) for need in rule.needs if need not in has]
        if beyond:
            raise UsageError(_lacking(self.credit, beyond))
        if self.judge not in LABELS and Need.FLAGS in rule.needs:
            mend = "take --credit grpo_ps, or --judge markers or intrinsic"
            raise UsageError(f"credit rule {self.credit} reads labels, and judge {self.judge} gives scores; {mend}")
        if self.judge in LABELS and Need.SCORES in rule.needs:
            mend = "take --credit tp_grpo, or --judge step-critic"
            raise UsageError(f"credit rule {self.credit} reads scores, and {self.judge} gives some steps none; {mend}")
        if self.tokenizer is None:
            mend = "give --tokenizer DIR (a tokenizer.json, that of the model that wrote the text), or --until judge"
            raise UsageError(f"credit goes to tokens, and no tokenizer was named; {mend}")

    @property
    def scores_whole(self) -> bool:
        """True if the judge gives one score a solution."""
        return self.judge in OUTCOME

    @property
    def grouped_by(self) -> GroupBy:
        """Which solutions are compared with one another by this judge."""
        return "problem" if self.scores_whole else self.group_by

    @property
    def without_effect(self) -> tuple[str, ...]:
        """One sentence on each group of settings that were given and that this walk does not read.

        >>> RecordedSettings(Path("run"), until="judge", overrides=("credit.alpha=2",)).without_effect
        ('credit.alpha has no effect: this walk ends before credit',)
        """
        limits = {"--max-calls": self.max_calls, "--max-cost": self.max_cost}
        names = [name.strip() for name, _, _ in (word.partition("=") for word in self.overrides)]
        asked = [flag for flag, value in limits.items() if value is not None]
        asked += [name for name in names if name.startswith("server.")]
        credit = [name for name in names if name.startswith("credit.")]
        own = (*WRITING, "discriminative", "think-rm", "spct")
        parts = {name: name.split(".")[0].replace("_", "-") for name in names}
        others = [name for name, part in parts.items() if part in own and part != self.judge]
        cuts = [name for name in names if name.startswith("steps.")]
        idle = (
            (asked, "judge markers asks no model", self.judge == "markers"),
            (credit, "this walk ends before credit", not self.reaches("credit")),
            (others, f"the judge is {self.judge}", True),
            (cuts, f"judge {self.judge} scores whole solutions", self.scores_whole),
        )
        return tuple(
            f"{', '.join(given)} {'has' if len(given) == 1 else 'have'} no effect: {why}"
            for given, why, is_idle in idle
            if given and is_idle
        )

    def reaches(self, stage: Stage) -> bool:
        """True if the walk goes as far as the stage."""
        return STAGES.index(self.until) >= STAGES.index(stage)


def check_judge(name: str, server: str | None, model: str | None = None, tokenizer: str | None = None) -> None:
    """Refuse an unknown judge, one without its server or tokenizer, and a server or tokenizer for one that needs none.

    Raises:
        UsageError: naming the mend.
    """
    check_choice("judge", name, FileJudge)
    if name == "markers" and (server is not None or model is not None):
        flag = "--model" if server is None else "--server"
        mend = "give --judge critic or intrinsic, or leave it out"
        raise UsageError(f"{flag} names a model, and judge markers asks none; {mend}")
    if name in ASKS_MODEL and server is None:
        mend = "give --server URL (any OpenAI-style chat server) and --model NAME"
        raise UsageError(f"judge {name} asks a model; {mend}")
    if name == "discriminative":
        check_scoring(server, model, tokenizer)
    if name in WRITING and tokenizer is None:
        mend = "give its folder, or the model's id on the hub, as tokenizer (run: --judge-tokenizer)"
        raise UsageError(f"judge {name} goes on with token ids of the served model's tokenizer; {mend}")
    if name not in (*WRITING, "discriminative") and tokenizer is not None:
        raise UsageError(f"judge {name} takes no tokenizer; leave it out, or give --judge thinkprm or genprm")


def load_recorded(overrides: tuple[str, ...] = (), recipe: Path = RECIPE) -> RecordedRecipe:
    """A recipe of recorded solutions, by default the one that ships.

    Raises:
        UsageError: for a file that is none, an unknown key or a value out of range.
    """
    return load_recipe(recipe, RecordedRecipe, overrides=overrides)


def given(part: Section, *names: str) -> dict[str, Any]:
    """The keys of a section that are set, all of them or those named.

    >>> given(JudgePart(votes=3), "votes", "seed")
    {'votes': 3}
    """
    wanted = names or tuple(type(part).model_fields)
    return {name: value for name in wanted if (value := getattr(part, name)) is not None}


def refuse_others(part: Section, known: tuple[str, ...], *, section: str, of: str) -> None:
    """Refuse keys that are set and that the chosen part does not have.

    Raises:
        UsageError: naming the nearest key that it has.
    """
    for name in given(part):
        if name not in known:
            raise UsageError(f"{section}.{name} is no setting of {of}; {nearest(name, known)}", item=RECIPE.name)


def rule_settings(name: str, part: CreditPart) -> object:
    """Settings of a credit rule from `[credit]`.

    Raises:
        UsageError: for a key that the rule does not have or that is set twice, a value out of range, or settings that
            read a signal which no file has.
    """
    rule = rule_named(name)
    made: Any = rule.settings
    known = tuple(field.name for field in fields(made))
    refuse_others(part, (*known, *OWN), section="credit", of=name)
    keys = given(part, *(key for key in known if key in type(part).model_fields))
    for key in part.settings:
        if key not in known:
            raise UsageError(f"credit.settings.{key} is no setting of {name}; {nearest(key, known)}", item=RECIPE.name)
        if key in keys:
            raise UsageError(f"credit.{key} and credit.settings.{key} are both set; leave one out", item=RECIPE.name)
    try:
        settings = made(**keys, **part.settings)
    except TypeError as error:
        raise UsageError(f"credit rule {name}: {error}", item=RECIPE.name) from error
    beyond = [str(need) for need in rule.wanted(settings) if need not in (*IN_A_FILE, *rule.needs)]
    if beyond:
        raise UsageError(_lacking(name, beyond))
    if Need.BONUS not in rule.wanted(settings) and "exploration_scale" in part.model_fields_set:
        raise UsageError(f"credit.exploration_scale has no effect: rule {name} reads no bonus", item=RECIPE.name)
    return settings


def _lacking(name: str, beyond: list[str]) -> str:
    mend = "take --credit tp_grpo, or train, which has a model to ask"
    return f"credit rule {name} reads {', '.join(beyond)}, and recorded solutions have none; {mend}"
