"""ThinkPRM and GenPRM on a server: built from recipe and tokenizer, met before they are first asked."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from stepcredit.core.code import CodeRunner
from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Judge, Message
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.hub import tokenizer_folder
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.genprm.judge import GenPrmJudge
from stepcredit.judges.tallies import OnTally
from stepcredit.judges.thinkprm.judge import ThinkPRMJudge
from stepcredit.recipes.recorded.code_running import sandbox_settings
from stepcredit.recipes.recorded.meeting import MetJudge
from stepcredit.recipes.recorded.settings import RecordedRecipe, given
from stepcredit.recipes.recorded.writing_parts import genprm_settings, thinkprm_settings

Context = tuple[str, int | None]
"""Recipe key and value of the window that a judge keeps to, in tokens; value `None`: none."""

if TYPE_CHECKING:  # loads the HTTP client
    from stepcredit.engines.server.client import ServerClient


async def _meet(
    client: "ServerClient", texts: tuple[FileTokenizer, ChatTemplate, str], judge: str, context: Context
) -> None:
    """Meet the server: can it be asked, and is its tokenizer the one that was named?

    Raises:
        UsageError: if the server cannot be asked by this judge, or has another tokenizer or a smaller context.
        EngineError: if it does not answer.
    """
    from stepcredit.engines.server.meeting import meet_writer  # noqa: PLC0415 -- loads the HTTP client

    tokenizer, chat, place = texts
    special = chat.render([Message("user", "1 + 1?")], add_generation_prompt=True)
    told = await meet_writer(client, tokenizer, judge=judge, special=special, place=place)
    key, wanted = context
    if told is not None and (wanted is None or wanted > told):
        now = "is not set" if wanted is None else f"is {wanted}"
        raise UsageError(f"the served model's context is {told} tokens and {key} {now}; add --set {key}={told}")


def writing_judge(
    name: str,
    client: "ServerClient",
    recipe: RecordedRecipe,
    *,
    tokenizer: str | None,
    runner: CodeRunner | None,
    on_tally: OnTally,
) -> Judge:
    """The judge by name on a server.

    Args:
        name: `thinkprm` or `genprm`.
        client: of the server.
        recipe: `[thinkprm]` or `[genprm]` is read.
        tokenizer: folder or hub id of the served model's tokenizer and chat template.
        runner: of the code that `genprm` writes; without one it writes none.
        on_tally: gets the counts of every solution.

    Raises:
        UsageError: for a tokenizer, template or setting that the judge cannot use.
    """
    folder = tokenizer_folder(tokenizer or "")
    thinks = {"enable_thinking": True} if name == "thinkprm" else None  # some templates switch it off by default
    loaded, chat = FileTokenizer.load(folder), ChatTemplate.load(folder, variables=thinks)
    if name == "thinkprm":
        thinkprm = thinkprm_settings(recipe.thinkprm)
        judge: Judge = ThinkPRMJudge(client, loaded, chat, thinkprm, on_tally=on_tally)
        context = ("thinkprm.context", thinkprm.context)
    else:
        genprm = genprm_settings(recipe.genprm)
        judge = GenPrmJudge(client, loaded, chat, genprm, runner=runner, on_tally=on_tally)
        context = ("genprm.context_tokens", genprm.context_tokens)
    meet = partial(_meet, client, (loaded, chat, str(tokenizer)), name, context)
    return MetJudge(judge, meet, failed="the judge's server could not be met")


def writing_settings(name: str, recipe: RecordedRecipe) -> dict[str, Any]:
    """All settings of the judge by name, defaults included, as JSON has them.

    Raises:
        UsageError: for values that do not go together, or keys of another judge in `[judge]`.
    """
    for key in given(recipe.judge):
        raise UsageError(f"judge.{key} is no setting of {name}; its settings are those of [{name}]")
    if name == "thinkprm":
        found = asdict(thinkprm_settings(recipe.thinkprm))
    else:
        genprm = genprm_settings(recipe.genprm)
        mode = genprm.mode or ("analyze" if recipe.sandbox.engine == "off" else "full")
        if mode in ("full", "verify") and genprm.execute and recipe.sandbox.engine == "off":
            mend = "give --sandbox auto, or --set genprm.execute=false (it imagines what its code prints)"
            raise UsageError(f"genprm.mode {mode} runs code, and the sandbox is off; {mend}")
        found = asdict(genprm) | {"mode": mode} | sandbox_settings(recipe.sandbox)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}
