"""What GenPRM left of a step, as a rationale: analysis, code, what running it really gave, and the verdict."""

from collections.abc import Iterator

from stepcredit.core.rationales import Passage, Rationale
from stepcredit.judges.genprm.execution import CodeBlock, prose_and_code
from stepcredit.judges.genprm.records import Status, StepRecord

DROPPED = "dropped: the verdict was given without it"
IMAGINED = "not run: what follows is what the model imagines"


def critique_of_step(record: StepRecord, *, number: int) -> Rationale:
    r"""One step in one pass; code that the fallback dropped stands at the end.

    Args:
        record: of the step.
        number: of the pass, from 0.

    >>> from stepcredit.judges.genprm.records import Part
    >>> wrote = Part("written", "<verify>\n```python\nprint(1 + 1)\n```\n")
    >>> ran = CodeBlock("print(1 + 1)", "2", "ok", 0.1)
    >>> record = StepRecord(3, 0.9, 0.9, 0.1, "Yes", parts=(wrote, Part("feedback", "[2]")), blocks=(ran,))
    >>> told = critique_of_step(record, number=0)
    >>> [(part.kind, part.text) for part in told.passages], told.verdict
    ([('written', '<verify>\n'), ('code', 'print(1 + 1)'), ('output', '2')], 'Yes: probability of Yes 0.900, of No 0.100')
    """
    passages = tuple(Passage(part.kind, part.text, record.index, part.status) for part in _passages(record))
    ended = ", ".join(status.replace("_", " ") for status in record.statuses)
    scores = (record.reward,)
    return Rationale(f"pass {number + 1}", record.index, scores, passages, _verdict(record), ended)


def _passages(record: StepRecord) -> Iterator[Passage]:
    """Its texts in order; what was run is the blocks of its record, one a `feedback` part."""
    dropped = Status.CODE_DROPPED in record.statuses
    ran = iter(() if dropped else record.blocks)
    imagined = any(block.status == "imagined" for block in record.blocks)
    for part in record.parts:
        if part.kind == "feedback":
            yield from _output(next(ran, None), part.text)
            continue
        for text, is_code in prose_and_code(part.text):
            yield Passage("code", text, status=IMAGINED if imagined else "") if is_code else Passage(part.kind, text)
    if dropped:
        for block in record.blocks:
            yield Passage("code", block.code, status=DROPPED)
            yield from _output(block, "")
    else:
        for block in ran:
            if block.status == "refused":
                yield from _output(block, "")


def _output(block: CodeBlock | None, told: str) -> Iterator[Passage]:
    """What came of a block: what the model was told of its run, or why there was none."""
    if block is None:
        yield Passage("output", told)
    elif block.status != "imagined":
        yield Passage("output", block.feedback, status=block.status.replace("_", " "))


def _verdict(record: StepRecord) -> str:
    if record.verdict is None:
        return ""
    if record.p_yes_raw is None or record.p_no_raw is None:
        return record.verdict
    bound = ", a bound" if Status.TRUNCATED in record.statuses else ""
    return f"{record.verdict}: probability of Yes {record.p_yes_raw:.3f}, of No {record.p_no_raw:.3f}{bound}"
