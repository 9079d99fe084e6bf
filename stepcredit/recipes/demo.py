"""`stepcredit demo`: fine-tune to the gate, teach the judges, train every arm from one checkpoint, and report."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, final

from stepcredit.core.errors import UsageError
from stepcredit.core.records import Credit
from stepcredit.recipes.arms import ArmJob, ArmResult, run_arm
from stepcredit.recipes.crew import Crew, Heard, Teller, asked_to_stop
from stepcredit.recipes.demo_results import closing_sentence, curve_plots, method_figures, result_table, summary
from stepcredit.recipes.demo_settings import RECIPE, DemoRecipe, load_demo
from stepcredit.recipes.draining import draining
from stepcredit.recipes.judge_figures import (
    Figures,
    judge_table,
    measure_in_training,
    reading_summary,
    reading_tables,
)
from stepcredit.recipes.loading import nearest_key
from stepcredit.recipes.monitor_results import monitor_fact, monitor_summary, monitor_tables
from stepcredit.recipes.pretraining import GateFigures, Pretrained, pretrain_to_gate
from stepcredit.recipes.report_run import save_report
from stepcredit.recipes.session import session
from stepcredit.recipes.teaching import TeachingRecord, teach_generative, teach_taught
from stepcredit.report.build import rollout_view
from stepcredit.report.progress import Progress, SilentProgress
from stepcredit.report.views import ReportData, RolloutView, TableView
from stepcredit.store.codec import decode
from stepcredit.store.files import FileWriter
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import LEDGER, RunFolder, read_json
from stepcredit.training.rounds import RoundRow

Preset = Literal["quick", "full"]
JUDGE_TEACHERS = {"generative": teach_generative, "taught": teach_taught}
"""Judges that are taught before they judge."""

TEACHING = "teaching.json"
TOLD_UPDATES = 10

FULL_SEEDS = 5
"""Seeds of the preset `full`: the least from which a statement about learning may be made."""


@final
@dataclass(frozen=True)
class DemoSettings:
    """What the demo is asked to do.

    Args:
        seeds: number of seeds of every arm; the preset `full` raises it to five.
        preset: `quick` (one seed) or `full`.
        out: run folder.
        exhibit: also train the arm that hacks its reward.
        arms: names of the arms to train, `None` for all of the recipe.
        recipe: another recipe file of the same schema.
        overrides: `section.key=value`, applied to the recipe.
        workers: arms trained side by side, one thread each; `None` takes the number of cores.
    """

    seeds: int = 1
    preset: Preset = "quick"
    out: Path = Path("runs/demo")
    exhibit: bool = False
    arms: tuple[str, ...] | None = None
    recipe: Path = RECIPE
    overrides: tuple[str, ...] = ()
    workers: int | None = None

    @property
    def verb(self) -> str:
        """`demo` for the comparison, `train` for chosen arms."""
        return "demo" if self.arms is None else "train"

    @property
    def seed_list(self) -> tuple[int, ...]:
        """Seeds of the runs."""
        return tuple(range(max(self.seeds, FULL_SEEDS) if self.preset == "full" else self.seeds))


@final
@dataclass(frozen=True)
class DemoResult:
    """What the demo gave.

    Args:
        summary: as in `summary.json`.
        closing: what the intervals allow to be said.
        folder: the run folder, with `report.html`.
    """

    summary: dict[str, Any]
    closing: str
    folder: Path


def run_demo(settings: DemoSettings, progress: Progress | None = None) -> DemoResult:
    """Run the demo to its end, or go on where its folder stands.

    Args:
        settings: what to do.
        progress: who is told; nobody by default.

    Raises:
        PartialError: if fine-tuning missed its gate.
        DrainedError: if it was interrupted once and has saved what was under way; the same call goes on.
        UsageError: for a recipe that cannot be read, or a folder of another run.

    Source: embedded_world.md 8.6; tp_grpo.md 1.8. Differs: off-policy rounds in place of on-policy iterations.
    """
    screen = progress or SilentProgress()
    recipe = load_demo(settings.recipe, overrides=settings.overrides)
    arms = _chosen_arms(recipe, settings)
    with (
        draining(screen.say) as drain,
        RunFolder.create_or_open(settings.out, _manifest(recipe, settings)) as folder,
        session(folder),
    ):
        checkpoint = settings.out / "checkpoints" / "policy"
        with Crew(settings.workers or os.cpu_count() or 1, screen, drain) as crew:
            pretrained, teaching, running = _walk(recipe, checkpoint, settings, crew=crew, screen=screen, arms=arms)
            results, judges = _gathered(recipe, settings, running, crew=crew, arms=arms)
        figures = [method_figures(recipe, name, results=results[name], teaching=teaching) for name in arms]
        base = results[arms[0]][0].rows[0].accuracy or 0.0
        told = summary(
            recipe,
            figures,
            base_accuracy=base,
            judges=judges,
            versions=_versions(),
            seeds=settings.seed_list,
        )
        told["gate"] = asdict(pretrained.figures)
        told["pretrain"] = {"attempt": pretrained.attempt, "cpu_seconds": pretrained.cpu_seconds}
        told["parsing"] = reading_summary(results)
        told["monitors"] = monitor_summary(results)
        told["teaching"] = {name: asdict(record) for name, record in teaching.items()}
        data = _report(recipe, settings, results=results, told=told, gate=pretrained.figures, table=(
            result_table(recipe, figures, base_accuracy=base), judge_table(judges),
            *reading_tables(recipe, results), *monitor_tables(recipe, results)))  # fmt: skip
        folder.write_json("summary.json", told)
        save_report(folder.path, data)
    return DemoResult(told, closing_sentence(figures), settings.out)


def _chosen_arms(recipe: DemoRecipe, settings: DemoSettings) -> list[str]:
    """Names of the arms to train, in the recipe's order."""
    if settings.arms is None:
        return [name for name, arm in recipe.arms.items() if settings.exhibit or not arm.exhibit]
    for name in settings.arms:
        if name not in recipe.arms:
            meant = nearest_key(name, list(recipe.arms)) or ";"
            raise UsageError(
                f"the recipe has no arm {name}{meant} it has {', '.join(recipe.arms)}", item=str(settings.recipe)
            )
    return [name for name in recipe.arms if name in settings.arms]


def _walk(
    recipe: DemoRecipe, checkpoint: Path, settings: DemoSettings, *, crew: Crew, screen: Progress, arms: Sequence[str]
) -> tuple[Pretrained, dict[str, TeachingRecord], dict[str, list[Future[ArmResult]]]]:
    """Start everything that computes as soon as what it needs is there, the longest first; the arms still run."""
    needed = [name for name in JUDGE_TEACHERS if any(recipe.arms[arm].judge == name for arm in arms)]
    policy = crew.submit(_pretrain_job, recipe, checkpoint, crew.teller)
    taught: dict[str, Future[TeachingRecord]] = {}
    if "generative" in needed:  # it learns from demonstrations alone
        taught["generative"] = crew.submit(_teach_job, "generative", recipe, checkpoint, crew.teller)
    pretrained = crew.result(policy)
    screen.say(f"gate passed: {_gate(pretrained.figures)} (accuracy at {recipe.gate.divisions} divisions)")
    runs: dict[str, list[Future[ArmResult]]] = {}

    def start(name: str) -> None:
        jobs = [ArmJob(recipe, name, seed, checkpoint, arm_folder(settings, name, seed))
                for seed in settings.seed_list]  # fmt: skip
        runs[name] = [crew.submit(_arm_job, job, len(settings.seed_list) > 1, crew.teller) for job in jobs]

    waiting = [name for name in arms if recipe.arms[name].judge == "taught"]
    writing = [name for name in arms if recipe.arms[name].judge == "generative"]
    others = [name for name in arms if name not in (*waiting, *writing)]
    if writing and taught["generative"].done():  # the longest first; but no core waits for their judge
        for name in writing:
            start(name)
    for name in others[:-1]:
        start(name)
    if waiting:  # it learns from the policy's own steps; before the last other arm, so that all cores end together
        taught["taught"] = crew.submit(_teach_job, "taught", recipe, checkpoint, crew.teller)
    for name in others[-1:]:
        start(name)
    for name in (*writing, *waiting):
        if name not in runs:
            crew.result(taught[recipe.arms[name].judge])
            start(name)
    return pretrained, {name: crew.result(record) for name, record in taught.items()}, runs


def _gathered(
    recipe: DemoRecipe,
    settings: DemoSettings,
    runs: Mapping[str, Sequence[Future[ArmResult]]],
    *,
    crew: Crew,
    arms: Sequence[str],
) -> tuple[dict[str, list[ArmResult]], dict[str, dict[str, Figures]]]:
    """What the arms gave, by arm, and how good their judges were; a judge is measured once its arm has ended."""
    judged = {arm: (judge, ledgers) for judge, (arm, ledgers) in _judged_ledgers(recipe, settings, arms).items()}
    ended: dict[str, list[ArmResult]] = {}
    measured: dict[str, Future[dict[str, Figures]]] = {}
    for name, jobs in runs.items():
        ended[name] = [crew.result(job) for job in jobs]
        if name in judged:
            judge, ledgers = judged[name]
            measured[judge] = crew.submit(measure_in_training, recipe, ledgers, _ends(recipe, name))
    judges = {judge: crew.result(measured[judge]) for judge, _ in judged.values()}
    return {name: ended[name] for name in arms}, judges


def _pretrain_job(recipe: DemoRecipe, checkpoint: Path, teller: Teller) -> Pretrained:
    total = recipe.pretrain.updates

    def told(attempt: int, done: int, loss: float) -> None:
        if done % TOLD_UPDATES == 0 or done == total:
            name = "fine-tuning" if attempt == 0 else f"fine-tuning, restart {attempt}"
            amount = TOLD_UPDATES if done % TOLD_UPDATES == 0 else done % TOLD_UPDATES
            teller.put(Heard(name, amount, total, "updates", f"loss {loss:.3f}", done == total))

    return pretrain_to_gate(recipe, checkpoint, on_progress=told)


def _teach_job(name: str, recipe: DemoRecipe, checkpoint: Path, teller: Teller) -> TeachingRecord:
    """Teach one judge, unless an earlier session did; its record lies beside it."""
    place = checkpoint / f"judge-{name}"
    kept = read_json(place, TEACHING)
    if kept is not None:
        return TeachingRecord(**kept)
    title = f"teaching the {name} judge"

    def told(done: int, loss: float) -> None:
        if done % TOLD_UPDATES == 0:
            teller.put(Heard(title, TOLD_UPDATES, None, "updates", f"loss {loss:.3f}"))

    record = JUDGE_TEACHERS[name](recipe, checkpoint, on_progress=told)
    FileWriter(place).write(TEACHING, json.dumps(asdict(record)))
    note = f"{record.true_labels} true labels, {record.cpu_seconds:.0f} CPU s"
    teller.put(Heard(title, record.updates % TOLD_UPDATES, None, "updates", note, last=True))
    return record


def _arm_job(job: ArmJob, named: bool, teller: Teller) -> ArmResult:  # noqa: FBT001 -- pickled by position
    title = job.arm.title + (f", seed {job.seed}" if named else "")
    total = job.rounds.rounds

    def told(row: RoundRow) -> None:
        accuracy = "" if row.accuracy is None else f"accuracy {row.accuracy:.3f}"
        teller.put(Heard(title, 0 if row.index < 0 else 1, total, "rounds", accuracy, row.index + 1 == total))

    return run_arm(job, told, stop=asked_to_stop)


def arm_folder(settings: DemoSettings, name: str, seed: int) -> Path:
    """Run folder of one arm and seed."""
    return settings.out / "arms" / f"{name}-seed{seed}"


def _ends(recipe: DemoRecipe, name: str) -> tuple[int, int]:
    return 0, recipe.rounds.divided(recipe.arms[name].parts_of_round).rounds - 1


def _credits(settings: DemoSettings, arms: Sequence[str]) -> Sequence[tuple[str, int, Credit]]:
    """(arm, round, credit) of the solutions kept for the report, first seed."""
    found: list[tuple[str, int, Credit]] = []
    for name in arms:
        ledger = Ledger(arm_folder(settings, name, settings.seed_list[0]) / LEDGER, journal=None)
        try:
            for key, payload in ledger.items("shown"):
                found.append((name, int(key.partition("/")[0]), decode(payload)))
        finally:
            ledger.close()
    return found


def _judged_ledgers(
    recipe: DemoRecipe, settings: DemoSettings, arms: Sequence[str]
) -> dict[str, tuple[str, list[Path]]]:
    """Judge -> first arm that uses it as it is (one that changes it, where there is no other), and its ledgers."""
    found: dict[str, tuple[str, list[Path]]] = {}
    for name in sorted(arms, key=lambda name: recipe.arms[name].exhibit or recipe.arms[name].flip > 0):
        judge = recipe.arms[name].judge
        if judge != "none" and judge not in found:
            found[judge] = (name, [arm_folder(settings, name, seed) / LEDGER for seed in settings.seed_list])
    return found


def _report(
    recipe: DemoRecipe,
    settings: DemoSettings,
    *,
    results: Mapping[str, Sequence[ArmResult]],
    told: Mapping[str, Any],
    gate: GateFigures,
    table: tuple[TableView, ...],
) -> ReportData:
    shown: list[RolloutView] = [
        rollout_view(credit, method=recipe.arms[name].title, round=index)
        for name, index, credit in _credits(settings, list(results))
    ]
    sampled = sum(run.rows[-1].rollouts for runs in results.values() for run in runs)
    facts = (
        ("task", f"{recipe.world.name}, {recipe.world.length} steps"),
        ("policy", f"{recipe.model.layers} layers, width {recipe.model.dim}, trained from scratch"),
        ("gate", _gate(gate)),
        ("round", f"{recipe.rounds.problems} problems x {recipe.rounds.group_size} rollouts"),
        ("update", f"{recipe.rounds.rollouts_per_update} rollouts, learning rate {recipe.learner.learning_rate:g}"),
        ("monitors", monitor_fact(results)),
        ("seeds", ", ".join(str(seed) for seed in settings.seed_list)),
        ("machine", f"{os.cpu_count()} cores, {platform.machine()}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in _versions().items())),
    )  # fmt: skip
    return ReportData(
        title=f"stepcredit {settings.verb}",
        subtitle=_subtitle(recipe, settings, arms=list(results)),
        facts=facts,
        counts=(("rollouts sampled", sampled), ("methods", len(results)), ("seeds", len(settings.seed_list))),
        tables=table,
        plots=curve_plots(recipe, results),
        closing=str(told["closing"]),
        solutions=tuple(shown),
        omitted=sampled - len(shown),
    )


def _subtitle(recipe: DemoRecipe, settings: DemoSettings, *, arms: Sequence[str]) -> str:
    """What was done, in one line: the comparison, or the arms that were asked for."""
    if settings.arms is None and settings.recipe == RECIPE:
        return "TP-GRPO and its variants beside GRPO: one starting policy, the same problems, equal rollouts"
    titles = "; ".join(recipe.arms[name].title for name in arms)
    return f"{titles}: one starting policy, the same problems, equal rollouts" if len(arms) > 1 else titles


def _manifest(recipe: DemoRecipe, settings: DemoSettings) -> dict[str, Any]:
    return {
        "verb": settings.verb,
        "recipe": recipe.model_dump(mode="json"),
        "seeds": list(settings.seed_list),
        "arms": _chosen_arms(recipe, settings),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("stepcredit", "torch", "numpy")} | {"python": platform.python_version()}


def _gate(figures: GateFigures) -> str:
    forward, caught = _shown(figures.forward_facts), _shown(figures.caught)
    return f"accuracy {figures.accuracy:.3f}, forward facts {forward}, caught {caught}"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
