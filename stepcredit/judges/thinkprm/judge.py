"""The ThinkPRM judge: chains on a solution, its prefixes or its steps, and the verdicts that they make together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import final

from stepcredit.core.digests import digest
from stepcredit.core.errors import EngineError, JudgeError
from stepcredit.core.protocols import ChatRenderer, Scale, Tokenizer, Writer
from stepcredit.core.rationales import tell
from stepcredit.core.records import Steps, Verdict
from stepcredit.core.seeds import derive
from stepcredit.judges.tallies import OnTally, no_tally
from stepcredit.judges.thinkprm.chains import ChainWriter, ThinkPRMSettings
from stepcredit.judges.thinkprm.prompt import PromptBuilder
from stepcredit.judges.thinkprm.rationales import critique_of_prefix, critique_of_solution
from stepcredit.judges.thinkprm.signatures import Chain, ChainCounts, Status
from stepcredit.judges.together import together


@final
@dataclass(frozen=True)
class PrefixScore:
    """What chains on one prefix say of it.

    Args:
        score: mean probability of yes over the valid chains, `None` if there is none.
        valid: chains whose score counts.
        chains: all of them.
    """

    score: float | None
    valid: int
    chains: tuple[Chain, ...]


@final
class ThinkPRMJudge:
    r"""Scores steps by long critiques of a ThinkPRM checkpoint; reads neither the outcome nor the reference answer.

    What the score of step k is, by `settings.mode`; with several votes the mean over the chains that can be read:

    - `labels`: `votes` chains on the whole solution; 1 where the chain boxed the step as correct, 0 where as
      incorrect or where it had stopped at an error before. An early wrong `incorrect` sinks the rest.
    - `prefixes`: `votes` chains on each prefix; the probability of yes for the steps up to k, the authors' score.
      It judges all of the prefix: after an error it stays low.
    - `independent`: `votes` chains on each prefix; 1 or 0 by the box of step k alone, and unknown where every chain
      had stopped before it. No chain's early error sinks another step.

    A step that no chain can score is unknown, with the chains' statuses as reason. Chains that were cut, loop or lack
    both answers count for nothing; one whose labels are missing counts in mode `prefixes` if its answer was read.

    Args:
        writer: the served checkpoint.
        tokenizer: its own tokenizer.
        chat: its own chat template.
        settings: how it is asked.
        on_tally: gets the id and the counts of every solution that was judged.

    Raises:
        UsageError: if settings cannot be asked, or template or tokenizer are not a ThinkPRM checkpoint's.

    Source: ThinkPRM, arXiv:2504.16828; thinkprm.md 4. Differs: as `Switches` and `ThinkPRMSettings` say; a failed
    chain is left out of the mean, where the released code counts it as 0.269; after sequential rounds the labels of
    the last round that has them all count.
    """

    scale = Scale.PROBABILITY

    def __init__(
        self,
        writer: Writer,
        tokenizer: Tokenizer,
        chat: ChatRenderer,
        settings: ThinkPRMSettings | None = None,
        *,
        on_tally: OnTally = no_tally,
    ) -> None:
        self._settings = settings or ThinkPRMSettings()
        self._settings.check()
        self._writer = writer
        self.prompts = PromptBuilder(tokenizer, chat, self._settings.switches)
        self._chains = ChainWriter(writer, self.prompts, self._settings)
        self._on_tally = on_tally
        self.counts = ChainCounts()
        """Over all chains that this judge ended."""

    @property
    def fingerprint(self) -> str:
        """Wording, template, tokenizer, settings and the model's fingerprint."""
        return f"thinkprm:{digest(self.prompts.fingerprint, self._settings, self._writer.fingerprint)}"

    async def judge(self, steps: Steps) -> tuple[Verdict, ...]:
        """[K] verdicts.

        Raises:
            JudgeError: if the model gave no whole answer; carries the rollout id.
            BudgetError: if the model reached a limit on calls or cost.
        """
        size = len(steps)
        if not size:
            return ()
        if self._settings.mode == "labels":
            (chains,) = await self._ended(steps, (size,))
            for number, chain in enumerate(chains):
                scores = tuple(self._label_vote(chain, index) for index in range(size))
                tell([critique_of_solution(chain, number=number, scores=scores)])
            return tuple(self._by_labels(chains, index) for index in range(size))
        prefixes = await self._ended(steps, range(1, size + 1))
        by_score = self._settings.mode == "prefixes"
        for index, chains in enumerate(prefixes):
            for number, chain in enumerate(chains):
                score = self._score_vote(chain) if by_score else self._own_label_vote(chain, index)
                tell([critique_of_prefix(chain, number=number, step=index, score=score)])
        if by_score:
            return tuple(self._by_score(chains) for chains in prefixes)
        return tuple(self._by_own_label(chains, index) for index, chains in enumerate(prefixes))

    async def prefix_score(self, steps: Steps) -> PrefixScore:
        """The authors' score of the whole solution, whatever the mode: what best-of-n compares.

        Raises:
            JudgeError, BudgetError: as `judge`.
        """
        if not len(steps):
            return PrefixScore(None, 0, ())
        (chains,) = await self._ended(steps, (len(steps),))
        scores = [chain.score for chain in self._valid(chains) if chain.score is not None]
        return PrefixScore(fmean(scores) if scores else None, len(scores), chains)

    async def _ended(self, steps: Steps, prefixes: Sequence[int]) -> list[tuple[Chain, ...]]:
        """The chains of each prefix, given by its number of steps."""
        rollout, votes = steps.rollout, self._settings.votes
        wanted = [size for size in prefixes for _ in range(votes)]
        whole = self._settings.token_budget
        share = None if whole is None else whole // len(wanted)
        asked = (
            self._chains.chain(
                rollout.problem.text,
                steps.texts[:size],
                seed=derive(self._settings.seed, rollout.id, index),
                budget=share,
            )
            for index, size in enumerate(wanted)
        )
        try:
            chains = tuple(await together(asked))
        except EngineError as error:
            raise JudgeError(f"ThinkPRM's model failed: {error}", item=rollout.id) from error
        same = len(prefixes) == 1
        self.counts = self.counts.plus(chains, same_steps=same)
        self._on_tally(rollout.id, ChainCounts().plus(chains, same_steps=same).tally())
        return [tuple(chains[start : start + votes]) for start in range(0, len(chains), votes)]

    def _valid(self, chains: Sequence[Chain]) -> list[Chain]:
        """Chains with a score that counts."""
        return [chain for chain in chains if self._counts(chain)]

    def _counts(self, chain: Chain) -> bool:
        keep = self._settings.keep_contradicting
        return chain.score is not None and (keep or chain.status is not Status.CONTRADICTS)

    def _label_vote(self, chain: Chain, index: int) -> float | None:
        """What a chain on the whole solution adds to the mean of a step."""
        return _label_score(chain, index) if self._counts(chain) else None

    def _score_vote(self, chain: Chain) -> float | None:
        return chain.score if self._counts(chain) else None

    def _own_label_vote(self, chain: Chain, index: int) -> float | None:
        looked = chain.labels is not None and chain.labels.own[index] is not None
        return self._label_vote(chain, index) if looked else None

    def _by_labels(self, chains: Sequence[Chain], index: int) -> Verdict:
        found = [self._label_vote(chain, index) for chain in chains]
        return _verdict([score for score in found if score is not None], chains)

    def _by_score(self, chains: Sequence[Chain]) -> Verdict:
        found = [self._score_vote(chain) for chain in chains]
        return _verdict([score for score in found if score is not None], chains)

    def _by_own_label(self, chains: Sequence[Chain], index: int) -> Verdict:
        read = [chain.labels for chain in self._valid(chains) if chain.labels is not None]
        if read and all(labels.own[index] is None for labels in read):
            calls = tuple(call for chain in chains for call in chain.calls)
            return Verdict(reason="every chain stopped at an error before this step", calls=calls)
        found = [self._own_label_vote(chain, index) for chain in chains]
        return _verdict([score for score in found if score is not None], chains)


def _label_score(chain: Chain, index: int) -> float | None:
    """Score of a step by its box: hard, or soft where the chain has soft labels; 0 after the first error."""
    if chain.labels is None:
        return None
    if index < len(chain.soft):
        return chain.soft[index]
    return float(chain.labels.labels[index])


def _verdict(scores: Sequence[float], chains: Sequence[Chain]) -> Verdict:
    """Mean of the scores that count, and how many of the chains gave one."""
    calls = tuple(call for chain in chains for call in chain.calls)
    counts = Counter(str(chain.status) for chain in chains)
    ended = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    if not scores:
        why = next((f" ({chain.reason})" for chain in chains if chain.reason), "")
        return Verdict(reason=f"no chain of {len(chains)} gives a score: {ended}{why}", calls=calls)
    return Verdict(fmean(scores), reason=f"{len(scores)} of {len(chains)} chains count: {ended}", calls=calls)
