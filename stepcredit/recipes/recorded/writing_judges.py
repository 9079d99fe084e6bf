"""ThinkPRM and GenPRM on a server: built from recipe and tokenizer, met before they are first asked."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, final

from stepcredit.core.code import CodeRunner
from stepcredit.core.errors import EngineError, JudgeError, UsageError
from stepcredit.core.protocols import Judge, Message, Scale
from stepcredit.core.records import Steps, Verdict
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.hub import tokenizer_folder
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.genprm.judge import GenPrmJudge
from stepcredit.judges.tallies import OnTally
from stepcredit.judges.thinkprm.judge import ThinkPRMJudge
from stepcredit.recipes.recorded.code_running import sandbox_settings
from stepcredit.recipes.recorded.settings import RecordedRecipe, given
from stepcredit.recipes.recorded.writing_parts import genprm_settings, thinkprm_settings

if TYPE_CHECKING:  # loads the HTTP client
    from stepcredit.engines.server.client import ServerClient


@final
class MetJudge:
    """Asks the judge once its server was met; implements `Judge`.

    Args:
        judge: who is asked.
        client: of its server.
        tokenizer: said to be that of the served model.
        chat: its chat template.
        name: of the judge.
        context: recipe key and value of the window that the judge keeps to, in tokens; value `None`: none.
        place: where the tokenizer comes from.
    """

    def __init__(
        self,
        judge: Judge,
        client: "ServerClient",
        *,
        tokenizer: FileTokenizer,
        chat: ChatTemplate,
        name: str,
        context: tuple[str, int | None],
        place: str,
    ) -> None:
        self._judge, self._client, self._tokenizer, self._chat = judge, client, tokenizer, chat
        self._name, self._context, self._place = name, context, place
        self._met, self._lock = False, asyncio.Lock()

    @property
    def fingerprint(self) -> str:
        """That of the judge."""
        return self._judge.fingerprint

    @property
    def scale(self) -> Scale:
        """That of the judge."""
        return self._judge.scale

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            UsageError: if the server cannot be asked by this judge, or has another tokenizer or a smaller context.
            JudgeError: if the judge failed.
        """
        async with self._lock:
            if not self._met:
                try:
                    await self._meet()
                except EngineError as error:
                    raise JudgeError(f"the judge's server could not be met: {error}", item=steps.rollout.id) from error
                self._met = True
        return await self._judge.judge(steps)

    async def _meet(self) -> None:
        from stepcredit.engines.server.meeting import meet_writer  # noqa: PLC0415 -- loads the HTTP client

        special = self._chat.render([Message("user", "1 + 1?")], add_generation_prompt=True)
        told = await meet_writer(self._client, self._tokenizer, judge=self._name, special=special, place=self._place)
        key, wanted = self._context
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
    return MetJudge(judge, client, tokenizer=loaded, chat=chat, name=name, context=context, place=str(tokenizer))


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
