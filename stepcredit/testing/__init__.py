"""Doubles for users' tests: one scripted implementation of every protocol in `core`, and a faulty inference server.

Nothing here needs a model, a network or torch. The tabular sampler and learner are real: they learn, in numpy.
"""

from stepcredit.testing.faults import Fault, random_faults
from stepcredit.testing.parts import (
    ScriptedChecker,
    ScriptedGroupJudge,
    ScriptedJudge,
    ScriptedSplitter,
    ScriptedTasks,
    ScriptedTrainedJudge,
)
from stepcredit.testing.scripted_answers import Manners
from stepcredit.testing.scripted_chat import ScriptedChat
from stepcredit.testing.scripted_judge_parts import ScriptedClassifier, ScriptedCritiqueRater, ScriptedOutcomeJudge
from stepcredit.testing.scripted_renderer import ScriptedRenderer
from stepcredit.testing.scripted_runner import ScriptedRunner
from stepcredit.testing.scripted_server import Asked, ScriptedServer
from stepcredit.testing.scripted_tokenizer import ScriptedTokenizer
from stepcredit.testing.scripted_writer import ScriptedWriter
from stepcredit.testing.tabular import ScriptedLearner, ScriptedSampler, ScriptedScorer, TabularPolicy

__all__ = [
    "Asked",
    "Fault",
    "Manners",
    "ScriptedChat",
    "ScriptedChecker",
    "ScriptedClassifier",
    "ScriptedCritiqueRater",
    "ScriptedGroupJudge",
    "ScriptedJudge",
    "ScriptedLearner",
    "ScriptedOutcomeJudge",
    "ScriptedRenderer",
    "ScriptedRunner",
    "ScriptedSampler",
    "ScriptedScorer",
    "ScriptedServer",
    "ScriptedSplitter",
    "ScriptedTasks",
    "ScriptedTokenizer",
    "ScriptedTrainedJudge",
    "ScriptedWriter",
    "TabularPolicy",
    "random_faults",
]
