import pytest

from stepcredit.judges.genprm.execution import Executed, all_code, feedback, last_code


@pytest.mark.parametrize(
    ("done", "told"),
    [
        (Executed("ok", "\n 5050\n\n"), "5050"),
        (Executed("ok"), ""),
        (Executed("no_code"), "Code format error: No code found."),
        (Executed("timeout", "half"), "Code execute time out: Code execution timed out"),
        (Executed("error", "half", "ValueError: no"), "Code execute Error: ValueError: no"),
        (Executed("killed", "", "MemoryError: "), "Code execute Error: MemoryError: "),
    ],
)
def test_the_model_is_told_in_the_shapes_it_was_trained_on(done, told):
    assert feedback(done) == told


def test_long_output_keeps_head_and_tail_and_says_that_it_was_cut():
    told = feedback(Executed("ok", "a" * 3000 + "z" * 3000), limit=100)
    assert len(told) <= 100
    assert told.startswith("aaa")
    assert told.endswith("zzz")
    assert "[cut]" in told
    assert feedback(Executed("ok", "a" * 100), limit=100) == "a" * 100


def test_the_last_python_block_is_taken():
    assert last_code("```python\na\n```\n```python\nb\nc\n```\n```\nd\n```") == "b\nc"
    assert last_code("```\na\n```") is None
    assert last_code("```python\nnever closed") is None
    assert all_code("```python\na\n```\n```python\nb\n```\n") == ["a", "b"]
