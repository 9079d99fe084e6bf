"""Names (STYLE.md 2 and 4): one word for one thing, and no module called after nothing."""

import itertools
import re
from collections import Counter
from pathlib import Path

from house_source import ROOT, modules, public_names

NEVER = {
    "question": "problem",
    "gold": "answer",
    "ground_truth": "answer",
    "trajectory": "rollout",
    "trajectories": "rollout",
    "episode": "rollout",
    "num_generations": "group_size",
    "cu_seqlens": "layout",
    "segmenter": "splitter",
    "verifier": "judge or checker",
    "grader": "judge or checker",
    "logps": "logprobs",
    "log_prob": "logprobs",
    "log_probs": "logprobs",
    "padding_mask": "mask",
    "response": "completion",
    "query": "prompt",
}
"""Words of the 'never' column that have no innocent second meaning in a public name, and what to say."""

BOUNDARY = ("stepcredit/engines/", "stepcredit/adapters/", "stepcredit/testing/", "stepcredit/tasks/")
"""Where other people's formats are read or spoken: a server's response, a file's gold."""

AT_BOUNDARY = {"response", "query", "gold", "question"}
NOWHERE = {"utils", "util", "helpers", "helper", "common", "misc", "stuff", "tools"}


def test_public_names_use_the_words_of_the_glossary() -> None:
    found = []
    for module in modules():
        allowed = AT_BOUNDARY if module.name.startswith(BOUNDARY) else set()
        for name, node in public_names(module):
            bad = [word for word in words_of(name) if word in NEVER and word not in allowed]
            found += [f"{module.at(node)}: {name}: say {NEVER[word]}" for word in bad]
    assert found == []


def test_no_module_is_called_after_nothing() -> None:
    assert [m.name for m in modules("stepcredit", "tests", "benchmarks") if m.path.stem in NOWHERE] == []
    assert [
        str(p.relative_to(ROOT)) for p in ROOT.joinpath("stepcredit").rglob("*") if p.is_dir() and p.name in NOWHERE
    ] == []


def test_test_modules_have_names_of_their_own() -> None:
    """Pytest imports tests by their bare name: two of one name cannot be collected together."""
    names = Counter(
        path.name for path in Path(ROOT, "tests").rglob("*.py") if path.name not in ("conftest.py", "__init__.py")
    )
    assert [name for name, count in names.items() if count > 1] == []


def words_of(name: str) -> list[str]:
    """Single words and neighbouring pairs of a name in snake or camel case."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")
    return [*words, *("_".join(pair) for pair in itertools.pairwise(words))]
