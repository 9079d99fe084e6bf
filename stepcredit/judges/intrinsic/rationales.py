"""What a model answered to the intrinsic judge's reading tasks, as rationales: every reply, rejected ones too."""

import re
from collections.abc import Sequence

from stepcredit.core.rationales import Passage, Rationale
from stepcredit.judges.intrinsic.tasks import ReaderReply, Task, TraceTask, TraceVerifyTask, VerifyTask

_REFLECTING = (TraceTask, VerifyTask, TraceVerifyTask)


def reply_to(task: Task, reply: ReaderReply, *, vote: int, attempt: int, rejected: str) -> Rationale:
    """One reply; it speaks of the whole solution and scores nothing, as labels come of several replies together.

    Args:
        task: what was asked.
        reply: as written.
        vote: number of the vote, from 0.
        attempt: number of the try, from 0.
        rejected: why it could not be read, empty if it could.

    >>> reply_to(VerifyTask("p", ("a", "b", "c"), 0, ""), ReaderReply("{}"), vote=0, attempt=1, rejected="no JSON").name
    'P3 on the reflection in step 2, vote 1, try 2'
    """
    reflection = f" on the reflection in step {task.reflection}" if isinstance(task, _REFLECTING) else ""
    name = f"{task.name}{reflection}, vote {vote + 1}, try {attempt + 1}"
    return Rationale(
        name, passages=(Passage("written", reply.text),), status=f"rejected: {rejected}" if rejected else ""
    )


def in_order(said: Sequence[Rationale]) -> list[Rationale]:
    """Replies by task, reflection, vote and try, whatever order they came in.

    >>> [told.name for told in in_order([Rationale("P1, vote 1, try 10"), Rationale("P1, vote 1, try 9")])]
    ['P1, vote 1, try 9', 'P1, vote 1, try 10']
    """
    return sorted(
        said, key=lambda told: [int(part) if part.isdigit() else 0 for part in re.split(r"([0-9]+)", told.name)]
    )
