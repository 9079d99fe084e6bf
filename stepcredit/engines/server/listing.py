"""The first look at a server: is it there, and which of its models is meant?"""

from typing import Any, cast

from stepcredit.core.errors import EngineError, MachineError, UsageError
from stepcredit.engines.server.answers import Body
from stepcredit.engines.server.transport import Transport


async def served_model(transport: Transport, wanted: str) -> tuple[str, int | None]:
    """Name of the model to ask, and the most tokens that it reads at once if the list of models says it.

    Args:
        transport: to the server.
        wanted: name of the model, empty for the only one. A server without a list has it: the first call will tell.

    Raises:
        MachineError: if there is no server.
        UsageError: if it does not have the model, or none is named and it has none or several.
    """
    try:
        status, body = await transport.look("models", None)
    except EngineError as error:
        url = transport.url
        mend = "is the server running? start it, or give its address by --server"
        raise MachineError(f"{str(error).removeprefix(f'{url}: ')}; {mend}", item=url) from error
    listed = models_of(body) if status == 200 and body is not None else {}
    names = [*listed] or ([wanted] if wanted else [])
    shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    if not names:
        told = "lists no model" if status == 200 else f"has no list of models ({status} for models)"
        mend = "check that --server is the address of a chat server, and name its model by --model"
        raise UsageError(f"what answers there {told}; {mend}", item=transport.url)
    chosen = wanted or (names[0] if len(names) == 1 else "")
    if chosen not in names:
        missing = f"no model {wanted!r} there" if wanted else "the server has several models: name one"
        raise UsageError(f"{missing}; it has {shown}; set --model", item=transport.url)
    return chosen, listed.get(chosen)


def models_of(answer: Body) -> dict[str, int | None]:
    """Names of the listed models, with the context of each if the list says it.

    >>> models_of({"data": [{"id": "a", "max_model_len": 4096}, {"id": "b"}, 3]})
    {'a': 4096, 'b': None}
    """
    listed = answer.get("data")
    found: dict[str, int | None] = {}
    for row in cast("list[Any]", listed) if isinstance(listed, list) else []:
        entry = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
        length = entry.get("max_model_len")
        if isinstance(entry.get("id"), str):
            found[entry["id"]] = length if isinstance(length, int) and length > 0 else None
    return found
