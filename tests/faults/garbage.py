"""Two hundred bodies that a server may answer with and that are no answer: a seeded corpus."""

import json
import random
from typing import Any

GOOD: dict[str, Any] = {
    "id": "1",
    "object": "chat.completion",
    "model": "scripted",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "\\boxed{-1}"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}
STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    2**63,
    2**70,
    "",
    "\x00",
    "\ud83d",
    [],
    {},
    [[]],
    {"a": {}},
    "NaN",
)


def corpus(size: int = 200, seed: int = 7) -> list[bytes]:
    """Bodies none of which holds a whole chat answer: cut, bent, of other shapes, without choices, not JSON at all."""
    draws = random.Random(seed)
    makers = (_cut, _no_choices, _strange_content, _strange_finish, _strange_choice, _bytes, _nested, _other_json)
    found = [makers[k % len(makers)](draws) for k in range(size)]
    assert len({*found}) > size // 2
    return found


def odd_beside_a_good_answer(seed: int = 8) -> list[bytes]:
    """Bodies whose text is good and whose other fields are odd: they may be read, and must break nothing."""
    draws = random.Random(seed)
    bodies = []
    for value in STRANGE:
        fields = ("usage", "id", "object", "created", "system_fingerprint")
        bodies += [_dump({**GOOD, field: value}) for field in fields]
        bodies.append(_dump({**GOOD, "usage": {"prompt_tokens": value, "completion_tokens": value}}))
        bodies.append(_dump({**GOOD, "choices": [{**GOOD["choices"][0], "index": value}]}))
        bodies.append(_dump({**GOOD, "choices": [{**GOOD["choices"][0], "logprobs": value}]}))
    draws.shuffle(bodies)
    return bodies


def _dump(body: Any) -> bytes:
    return json.dumps(body).encode()  # writes lone surrogates as escapes, and NaN as it is


def _cut(draws: random.Random) -> bytes:
    whole = _dump(GOOD)
    return whole[: draws.randrange(len(whole) - 1)]


def _no_choices(draws: random.Random) -> bytes:
    body = {name: value for name, value in GOOD.items() if name != "choices"}
    return _dump({**body, **draws.choice([{}, {"choices": draws.choice(STRANGE)}, {"error": {"message": "busy"}}])})


def _strange_content(draws: random.Random) -> bytes:
    bad = [value for value in STRANGE if not isinstance(value, str)]
    message = draws.choice([{}, {"content": draws.choice(bad)}, {"text": "\\boxed{-1}"}, draws.choice(bad)])
    return _dump({**GOOD, "x": draws.random(), "choices": [{**GOOD["choices"][0], "message": message}]})


def _strange_finish(draws: random.Random) -> bytes:
    finish = draws.choice([*STRANGE, "content_filter", "abort", "tool_calls", "Stop", "length "])
    return _dump({**GOOD, "x": draws.random(), "choices": [{**GOOD["choices"][0], "finish_reason": finish}]})


def _strange_choice(draws: random.Random) -> bytes:
    two = draws.choice([[draws.choice(STRANGE)], GOOD["choices"] * draws.randint(2, 4), [GOOD["choices"]]])
    return _dump({**GOOD, "x": draws.random(), "choices": two})


def _bytes(draws: random.Random) -> bytes:
    return draws.randbytes(draws.randrange(80))


def _nested(draws: random.Random) -> bytes:
    deep = draws.randrange(10, 30_000)
    return draws.choice([b"[" * deep, b'{"choices":' * deep, b"[" * deep + b"]" * deep])


def _other_json(draws: random.Random) -> bytes:
    page = b"<html><body>502 Bad Gateway " + str(draws.random()).encode() + b"</body></html>"
    return draws.choice(
        [page, _dump(draws.choice(STRANGE)), _dump([GOOD]), b"data: " + _dump(GOOD), b"NaN", b"\xef\xbb\xbf"]
    )
