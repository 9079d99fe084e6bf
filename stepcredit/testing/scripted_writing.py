"""The completions route of a scripted server whose answers are a writer's: texts and next tokens from a script."""

from typing import Any

import numpy as np

from stepcredit.core.protocols import Tokenizer, Writer, Writing

FLAT = -1.0
"""Log probability of every token of a prompt: a scripted writer has no opinion of what it reads."""

RARE = -30.0
"""Log probability of a next token that the script does not name."""


async def written_choice(writer: Writer, tokenizer: Tokenizer, body: dict[str, Any]) -> tuple[dict[str, Any], int, int]:
    """One choice of the completions route, with the tokens read and written.

    Args:
        writer: goes on with the prompt, or names the next tokens where `logprobs` asks for them.
        tokenizer: of the prompt, and of what is written.
        body: the request, without what the server ignores.
    """
    given = body["prompt"]
    prompt = np.array(given, np.int32) if isinstance(given, list) else tokenizer.encode(given)
    found: dict[str, Any] = {"index": 0, "logprobs": None}
    if body.get("logprobs") is not None or body.get("prompt_logprobs") is not None:
        text, finish, ids = "", "length", prompt[:1]
        found |= await _looked(writer, body, prompt)
    else:
        stop, seed = tuple(body.get("stop") or ()), int(body.get("seed") or 0)
        top_p, top_k = float(body.get("top_p", 1.0)), int(body.get("top_k", -1))
        most, heat = int(body.get("max_tokens", 16)), float(body.get("temperature", 1.0))
        writing = Writing(most, heat, top_p, top_k, stop, keep_stop=bool(body.get("include_stop_str_in_output")))
        written = await writer.write(prompt, writing, seed=seed)
        text, finish, ids = written.text, written.finish, tokenizer.encode(written.text)[:most]
    if body.get("return_token_ids"):
        found |= {"token_ids": ids.tolist(), "prompt_token_ids": prompt.tolist()}
    return {"text": text, "finish_reason": finish, **found}, len(prompt), len(ids)


async def _looked(writer: Writer, body: dict[str, Any], prompt: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if body.get("prompt_logprobs") is not None:
        found["prompt_logprobs"] = [None, *({str(i): {"logprob": FLAT}} for i in prompt[1:].tolist())]
    if body.get("logprobs") is None:
        return found
    named = [int(i) for i in body.get("logprob_token_ids") or ()]
    looked = await writer.next_tokens(prompt, np.array(named, np.int32))
    values = np.where(np.isfinite(looked.logprobs), looked.logprobs, RARE).tolist()
    tops = {f"token_id:{i}": value for i, value in zip(named, values, strict=True)} or {"token_id:0": FLAT}
    shown = len(prompt) if body.get("echo") else 0
    lines = [FLAT] * (shown + 1)
    tokens = [f"token_id:{i}" for i in (*prompt[:shown].tolist(), 0)]
    found["logprobs"] = {"tokens": tokens, "token_logprobs": lines, "top_logprobs": [None] * shown + [tops]}
    return found
