"""Meeting a server before a judge that writes from token ids is asked: can it, and is the tokenizer its model's?"""

import numpy as np

from stepcredit.core.errors import UsageError
from stepcredit.core.protocols import Tokenizer
from stepcredit.engines.server.client import ServerClient

_NEEDS = {
    "completions": "has no completions route",
    "token_ids_in": "takes no prompt as token ids",
    "token_ids_out": "gives no token ids (`return_token_ids`)",
    "logprobs": "gives no log probabilities (`logprobs`)",
}

SAMPLE = "Step 12: 3.5 * 4 = 14,000\n\n\\boxed{correct} Yes no naïve 数学 \U0001f600 <analyze>\n```python\nx = [i]\n"
"""Text by which two tokenizers are told apart: digits, spaces, marks, code, other alphabets."""


async def meet_writer(
    client: ServerClient, tokenizer: Tokenizer, *, judge: str, special: str = "", place: str = ""
) -> int | None:
    """Check that a server can be asked by token ids, and reads texts as the tokenizer does.

    Where the server has no tokenize route, its tokenizer cannot be compared.

    Args:
        client: of the server.
        tokenizer: said to be that of its model.
        judge: who wants to ask, for the message.
        special: text with the chat template's special tokens, compared too.
        place: where the tokenizer comes from, for the message.

    Returns:
        The longest prompt plus completion in tokens, `None` if the server does not say.

    Raises:
        UsageError: if the server lacks what is needed, or its model has another tokenizer.
        MachineError: if there is no server.
    """
    can = await client.probe()
    missing = can.missing(*_NEEDS)
    if missing:
        lacks = [_NEEDS[name] for name in (missing[:1] if missing[0] == "completions" else missing)]
        told = f"judge {judge} goes on with token ids and reads log probabilities, and this server {_and(lacks)}"
        raise UsageError(f"{told}; serve the model with vLLM", item=client.url)
    if not can.tokenize:
        return can.context
    text = SAMPLE + special
    served, ours = await client.tokenize(text), tokenizer.encode(text)
    if not np.array_equal(served, ours):
        first = next((k for k, (one, two) in enumerate(zip(served, ours, strict=False)) if one != two), 0)
        shown = f"ids {served[first : first + 3].tolist()} there, {ours[first : first + 3].tolist()} here"
        mend = "give --tokenizer the folder or hub id of the model that is served"
        raise UsageError(f"the tokenizer is not that of the served model ({shown}); {mend}", item=place or client.url)
    return can.context


def _and(parts: list[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]
