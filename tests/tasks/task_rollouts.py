"""Rollouts from text, a token a word: what the checkers of this folder are tried on."""

import re

import numpy as np

from stepcredit.core.records import Finish, Problem, Rollout


def rollout_of(problem: Problem, text: str, finish: Finish = "stop") -> Rollout:
    starts = [match.start() for match in re.finditer(r"\s*\S+", text)]
    ids = np.zeros(len(starts), np.int32)
    return Rollout(
        f"{problem.id}/0", problem, problem.id, 0, text, ids[:0], ids, np.array(starts, np.int32), finish=finish
    )
