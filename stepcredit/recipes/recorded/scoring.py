"""Discriminative reward models by name: recipe section `[discriminative]`, in this process or behind a server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from stepcredit.core.errors import UsageError
from stepcredit.core.judge_parts import TokenClassifier
from stepcredit.core.protocols import Judge
from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.hub import tokenizer_folder
from stepcredit.engines.server.budget import Budget
from stepcredit.engines.server.settings import ServerSettings
from stepcredit.engines.server.transport import OnAttempt
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.discriminative.formats import MarkedFormat, TaggedFormat, TurnsFormat
from stepcredit.judges.discriminative.judge import DiscriminativeJudge
from stepcredit.judges.discriminative.next_tokens import NextTokenClassifier
from stepcredit.recipes.extras import require_extra
from stepcredit.recipes.loading import Section


class DiscriminativePart(Section):
    """`[discriminative]`: how the reward model reads steps, and where it works.

    `format`: `marked` is Qwen2.5-Math-PRM, `tagged` Math-Shepherd, `turns` RLHFlow. `signed` scores by
    p(right) - p(wrong). `device`, `dtype` are of a model in this process. `context` is the window of a served model
    that writes `+` or `-`; one with a class head says its own.
    """

    format: Literal["marked", "tagged", "turns"] = "marked"
    signed: bool = False
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    context: int | None = Field(ge=1, default=None)


def check_scoring(server: str | None, model: str | None, tokenizer: str | None) -> None:
    """Refuse a reward model that is not named, or one on a server whose tokenizer is not.

    Raises:
        UsageError: naming the mend.
    """
    if model is None:
        mend = "give --model: its folder or hub id to load it here, or its name on --server URL"
        raise UsageError(f"judge discriminative reads by a reward model; {mend}")
    if server is not None and tokenizer is None:
        mend = "give its folder, or the model's id on the hub, as tokenizer (run: --judge-tokenizer)"
        raise UsageError(f"judge discriminative sends token ids of the served model's tokenizer; {mend}")


@asynccontextmanager
async def opened_scoring(
    part: DiscriminativePart,
    *,
    server: ServerSettings | None,
    model: str,
    tokenizer: str | None,
    budget: Budget,
    on_attempt: OnAttempt,
) -> AsyncGenerator[Judge]:
    """The judge, with its model loaded here or asked on the server.

    Args:
        part: format and place of work.
        server: how the server is asked, `None` to load the model here.
        model: folder or hub id of the model, or its name on the server.
        tokenizer: folder or hub id of its tokenizer and chat template; `None` takes those of the model.
        budget: limits on calls.
        on_attempt: gets a record of each request.

    Raises:
        UsageError: for a model, tokenizer or template that the format cannot use.
        MachineError: if the extra `train` is not installed and the model is to be loaded here.
    """
    form = _format(part, tokenizer_folder(tokenizer or model))
    if server is None:
        require_extra("train", job="judge discriminative without --server")
        from stepcredit.engines.scoring import load_classifier  # noqa: PLC0415 -- loads torch

        candidates = None if isinstance(form, MarkedFormat) else form.candidates
        with load_classifier(model, candidates=candidates, device=part.device, dtype=part.dtype) as here:
            yield DiscriminativeJudge(here, form, signed=part.signed)
    elif isinstance(form, MarkedFormat):
        from stepcredit.engines.server.pooling import PoolingClient  # noqa: PLC0415 -- loads the HTTP client

        async with PoolingClient(server, budget=budget, on_attempt=on_attempt) as pooling:
            yield DiscriminativeJudge(pooling, form, signed=part.signed)
    else:
        from stepcredit.engines.server.client import ServerClient  # noqa: PLC0415 -- loads the HTTP client

        async with ServerClient(server, budget=budget, on_attempt=on_attempt) as client:
            served: TokenClassifier = NextTokenClassifier(client, form.candidates, context=part.context)
            yield DiscriminativeJudge(served, form, signed=part.signed)


def scoring_settings(part: DiscriminativePart) -> dict[str, Any]:
    """All settings, defaults included, as JSON has them."""
    return part.model_dump(mode="json")


def _format(part: DiscriminativePart, folder: Path) -> MarkedFormat | TaggedFormat | TurnsFormat:
    tokenizer = FileTokenizer.load(folder)
    if part.format == "tagged":
        return TaggedFormat(tokenizer)
    chat = ChatTemplate.load(folder)
    return MarkedFormat(tokenizer, chat) if part.format == "marked" else TurnsFormat(tokenizer, chat)
