"""Tasks: where problems come from, and what checks their answers (Rollout -> Outcome)."""

from stepcredit.tasks.chain_world import ChainWorld
from stepcredit.tasks.reflection_world import WORLD_A, WORLD_D, WORLD_E, ReflectionWorld

WORLDS: dict[str, ReflectionWorld | ChainWorld] = {
    "reflection": WORLD_E,
    "reflection-a": WORLD_A,
    "reflection-d": WORLD_D,
    "chain": ChainWorld(),
}
"""The embedded worlds by name; each is a `TaskSet` with demonstrator and checker. Sets in files: `tasks.jsonl`."""
