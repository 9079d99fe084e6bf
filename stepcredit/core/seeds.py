"""Seeds by hashing: every random choice on the path names what it is for."""

from hashlib import blake2b


def derive(seed: int, *parts: str | int) -> int:
    """Seed of one named purpose, independent of its neighbours.

    Args:
        seed: the run's seed.
        *parts: what the number is for, coarse to fine: `derive(7, "sample", round, problem_id, 3)`.

    Returns:
        An integer in [0, 2**63); equal arguments give equal seeds on every machine.

    Source: own. Differs: none.

    >>> derive(0, "sample", 1) == derive(0, "sample", 1)
    True
    >>> derive(0, "sample", 1) == derive(0, "sample", "1")
    False
    """
    hasher = blake2b(digest_size=8)
    for part in (seed, *parts):
        data = f"{type(part).__name__}:{part}".encode()
        hasher.update(len(data).to_bytes(4, "little") + data)
    return int.from_bytes(hasher.digest(), "little") >> 1
