"""Process groups: whether any process of one is left."""

import os


def group_lives(group: int) -> bool:
    """True if a process of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
