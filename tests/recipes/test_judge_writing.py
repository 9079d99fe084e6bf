"""ThinkPRM and GenPRM from the command line: scores, settings, resuming, budgets, and what is refused."""

import json
from pathlib import Path

import pytest
from recorded_cases import RIGHT, WRONG, call, row, write_rows
from writing_cases import model_folder, served, thinkprm_reply

import stepcredit
from stepcredit.core.errors import BudgetError, PartialError, UsageError
from stepcredit.engines.hub import tokenizer_folder
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.recipes.judge_file import judge_file
from stepcredit.recipes.recorded import RecordedSettings, run_recorded
from stepcredit.recipes.report_run import saved_views
from stepcredit.store.ledger import Ledger
from stepcredit.store.run_folder import read_json
from stepcredit.testing import Asked, Fault, ScriptedServer

STRING = ("checker.mode=string",)
JUDGES = ("thinkprm", "genprm")
SCORES = {
    "thinkprm": [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]],
    "genprm": [[8 / 9] * 4, [8 / 9, 8 / 9, 1 / 9, 8 / 9]],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"))


def two(folder: Path) -> Path:
    return write_rows(folder / "x.jsonl", row(RIGHT, name="a"), row(WRONG, name="b"))


def judged(file: Path, out: Path, judge: str, server: ScriptedServer, model: Path, *more: str):
    return judge_file(
        file,
        out=out,
        judge=judge,
        server=server.url,
        model="scripted",
        tokenizer=str(model),
        overrides=(*STRING, *more),
    )


@pytest.mark.parametrize("judge", JUDGES)
def test_the_command_line_gives_the_scores_of_the_judge(judge: str, tmp_path: Path, model: Path) -> None:
    file = two(tmp_path)
    with served(model, judge) as server:
        words = ("--judge", judge, "--server", server.url, "--tokenizer", model, "--set", "checker.mode=string")
        assert call("judge", file, "--out", tmp_path / "run", *words) == 0
        asked = len(server.asked)
        assert (
            call("judge", file, "--out", tmp_path / "run", *words, "--model", "scripted") == 2
        )  # another run's settings
        assert call("judge", file, "--out", tmp_path / "run", *words) == 0
        again = [one for one in server.asked[asked:] if "stop" in one.body]
    assert again == []
    scores = [[step.score for step in view.steps] for view in saved_views(tmp_path / "run").solutions]
    assert scores == [pytest.approx(row) for row in SCORES[judge]]
    told = read_json(tmp_path / "run", "summary.json")
    assert (told["judged"], told["unknown"], told["settings"]["judge"]) == (2, 0, judge)
    assert told["calls"]["input_tokens"] > 1000


@pytest.mark.parametrize("judge", JUDGES)
def test_the_facade_gives_the_same(judge: str, model: Path) -> None:
    rows = [row(RIGHT), row(WRONG)]
    with served(model, judge) as server:
        found = stepcredit.judge(rows, judge=judge, server=server.url, tokenizer=model, overrides=STRING)
    assert [[step.score for step in one.steps] for one in found] == [pytest.approx(row) for row in SCORES[judge]]
    with pytest.raises(UsageError, match=f"judge {judge} asks a model; give --server"):
        stepcredit.judge(rows, judge=judge)
    with pytest.raises(UsageError, match="goes on with token ids of the served model's tokenizer; give its folder"):
        stepcredit.judge(rows, judge=judge, server="http://localhost:1")


def test_run_takes_the_scores_on_to_credit(tmp_path: Path, model: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, model="m"), row(WRONG, model="m"))
    with served(model, "genprm") as server:
        settings = RecordedSettings(
            tmp_path / "run",
            "genprm",
            credit="grpo_ps",
            tokenizer=model,
            server=server.url,
            overrides=STRING,
            judge_tokenizer=str(model),
        )
        result = run_recorded(file, settings)
    assert result.credited is not None
    assert result.summary["credit"]["kept"] == 2
    with pytest.raises(UsageError, match="credit rule tp_grpo reads labels, and judge genprm gives scores; take"):
        RecordedSettings(tmp_path / "r", "genprm", tokenizer=model, server="http://x", judge_tokenizer="y")


def test_settings_are_keys_of_the_judges_own_section(tmp_path: Path, model: Path) -> None:
    file = two(tmp_path)
    with served(model, "thinkprm") as server:
        more = ("thinkprm.profile=reference", "thinkprm.close_think=true", "thinkprm.label_case=capital")
        result = judged(file, tmp_path / "run", "thinkprm", server, model, *more, "thinkprm.votes=3")
        bodies = [one.body for one in server.asked if "stop" in one.body]
    assert len(bodies) == 6
    assert {body["temperature"] for body in bodies} == {0.6}
    assert len({body["seed"] for body in bodies}) == 6
    assert [v.score for v in result.judgements[1].verdicts] == [1.0, 1.0, 0.0, 0.0]
    manifest = read_json(tmp_path / "run", "manifest.json")
    assert manifest["judge"]["switches"] == {
        "newline_after_think": 2,
        "close_think": True,
        "label_case": "capital",
        "bos": 1,
        "step_prefix": True,
    }
    assert (manifest["judge"]["votes"], manifest["judge"]["context"]) == (3, 16384)


@pytest.mark.parametrize(
    ("judge", "given", "line"),
    [
        ("thinkprm", "thinkprm.vote=3", r"unknown key thinkprm\.vote; did you mean thinkprm\.votes"),
        ("thinkprm", "thinkprm.mode=label", r"thinkprm\.mode.*labels"),
        (
            "thinkprm",
            "judge.votes=3",
            r"judge\.votes is no setting of thinkprm; .* those of \[thinkprm\]",
        ),
        ("thinkprm", "thinkprm.rounds=9", "9 rounds need 8 triggers, got 3"),
        ("genprm", "genprm.top_p=7", "top_p must be in"),
        ("genprm", "genprm.mode=full", "runs code, and the sandbox is off"),
        ("genprm", "genprm.bos=3", r"genprm\.bos"),
    ],
)
def test_settings_that_cannot_be_used(judge: str, given: str, line: str, tmp_path: Path, model: Path) -> None:
    with served(model, "genprm") as server, pytest.raises(UsageError, match=line):
        judged(two(tmp_path), tmp_path / "run", judge, server, model, given)
    assert not server.asked


def test_a_section_of_a_judge_that_is_not_asked_is_named(tmp_path: Path) -> None:
    settings = RecordedSettings(tmp_path, until="judge", overrides=("thinkprm.votes=2",))
    assert settings.without_effect == ("thinkprm.votes has no effect: the judge is markers",)


@pytest.mark.parametrize("judge", JUDGES)
def test_a_walk_that_broke_goes_on_and_asks_nothing_twice(judge: str, tmp_path: Path, model: Path) -> None:
    """In the first session the server dies on one solution; in the second that one alone is asked about."""
    file, broken, tokenizer = two(tmp_path), [True], FileTokenizer.load(model)

    def dies(asked: Asked) -> Fault | None:
        wrong = "stop" in asked.body and "= 20" in tokenizer.decode(asked.body["prompt"])
        return Fault("status", status=500, body=b"{}") if wrong and broken[0] else None

    with served(model, judge, faults=dies) as server:
        with pytest.raises(PartialError, match="the judge failed on 1"):
            judged(file, tmp_path / "run", judge, server, model, "server.max_tries=1")
        first, broken[0] = len(server.asked), False
        result = judged(file, tmp_path / "run", judge, server, model, "server.max_tries=1")
        texts = [tokenizer.decode(one.body["prompt"]) for one in server.asked[first:] if "stop" in one.body]
    assert texts
    assert all("12 apples, that much is certain" in text for text in texts)
    assert [[v.score for v in j.verdicts] for j in result.judgements] == [pytest.approx(row) for row in SCORES[judge]]


def test_a_budget_stops_the_walk_and_a_higher_one_goes_on(tmp_path: Path, model: Path) -> None:
    file = two(tmp_path)

    def asked(limit: int):
        settings = RecordedSettings(
            tmp_path / "run",
            "genprm",
            until="judge",
            server=server.url,
            model="scripted",
            overrides=STRING,
            max_calls=limit,
            judge_tokenizer=str(model),
        )
        return run_recorded(file, settings, verb="judge")

    with served(model, "genprm") as server:
        with pytest.raises(BudgetError, match="--max-calls 20 is reached"):
            asked(20)
        assert len(server.asked) == 20
        result = asked(200)
        writes = [one for one in server.asked if "stop" in one.body]
    assert result.summary["judged"] == 2
    assert result.summary["calls"]["attempts"] == len(server.asked)
    assert len(writes) < 16


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize(
    ("manners", "line"),
    [
        ({"ignores": frozenset({"logprobs"})}, r"this server gives no log probabilities \(`logprobs`\); serve .* vLLM"),
        ({"ignores": frozenset({"return_token_ids"})}, r"gives no token ids \(`return_token_ids`\)"),
        ({"refuses": frozenset({"prompt_ids"})}, "takes no prompt as token ids, gives no token ids"),
        ({"refuses": frozenset({"completions"})}, "this server has no completions route; serve"),
        ({"model": "another"}, "no model 'scripted' there; it has another; set --model"),
        ({"context": 2048}, r"context is 2048 tokens and \w+\.context\w* is 16384; add --set \w+\.context\w*=2048"),
    ],
)
def test_servers_that_cannot_be_asked(
    judge: str, manners: dict[str, object], line: str, tmp_path: Path, model: Path
) -> None:
    with served(model, judge, **manners) as server, pytest.raises(UsageError, match=line):
        judged(two(tmp_path), tmp_path / "run", judge, server, model)
    assert not [one for one in server.asked if "include_stop_str_in_output" in one.body]


def test_a_smaller_context_is_kept_to(tmp_path: Path, model: Path) -> None:
    """The critique of a long solution has no room: unknown, with the reason, and nobody is asked."""
    long = row(RIGHT.replace("apples each", "apples each, that is many indeed, " * 400))
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="a"), long)
    with served(model, "thinkprm", context=4096) as server:
        result = judged(file, tmp_path / "run", "thinkprm", server, model, "thinkprm.context=4096")
    assert [v.score for v in result.judgements[0].verdicts] == [1.0] * 4
    assert all("no room for a critique" in v.reason for v in result.judgements[1].verdicts)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, model: Path) -> None:
    other = model_folder(tmp_path / "other", words=("correct",))
    with (
        served(model, "thinkprm") as server,
        pytest.raises(UsageError, match="other: the tokenizer is not that of"),
    ):
        judged(two(tmp_path), tmp_path / "run", "thinkprm", server, other)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nowhere", "nowhere: no such folder; give the folder of the served model, or its id on the hub"),
        ("/no/where", "/no/where: no such folder; give"),
        ("nobody/nothing", "nobody/nothing: no such folder, and the hub gave no files for it"),
    ],
)
def test_a_tokenizer_that_is_not_there(
    name: str, line: str, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with served(model, "thinkprm") as server, pytest.raises(UsageError, match=line):
        judged(two(tmp_path), tmp_path / "run", "thinkprm", server, Path(name))


def test_a_hub_id_is_read_from_the_hubs_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "hub" / "models--launch--Tiny"
    model_folder(cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc", encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert tokenizer_folder("launch/Tiny") == cache / "snapshots" / "abc"
    assert tokenizer_folder(cache / "snapshots" / "abc" / "tokenizer.json") == cache / "snapshots" / "abc"


def test_another_tokenizer_or_setting_is_another_run(tmp_path: Path, model: Path) -> None:
    file = two(tmp_path)
    other = model_folder(tmp_path / "other", words=("zzz",))
    with served(model, "thinkprm") as server:
        judged(file, tmp_path / "run", "thinkprm", server, model)
        with pytest.raises(UsageError, match="another version of the judge"):
            judged(file, tmp_path / "run", "thinkprm", server, other)
        with pytest.raises(UsageError, match="votes"):
            judged(file, tmp_path / "run", "thinkprm", server, model, "thinkprm.votes=2")


def test_what_the_model_did_is_in_the_summary_over_all_sessions(tmp_path: Path, model: Path) -> None:
    def loops_on_the_wrong_one(prompt, writing):
        return "Wait, again. " * 900 if "= 20" in prompt else thinkprm_reply(prompt, writing)

    file = two(tmp_path)
    more = ("thinkprm.max_tokens=600", "thinkprm.resample=false")
    with served(model, "thinkprm", reply=loops_on_the_wrong_one) as server:
        for _ in range(2):
            result = judged(file, tmp_path / "run", "thinkprm", server, model, *more)
    told = result.summary["signatures"]
    assert (told["chains"], told["ok"], told["loop"], told["saturation"]) == (2, 1, 1, 0.0)
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        assert ledger.count("signature") == 2
    assert result.summary["judged"] == 1


def test_a_template_that_switches_thinking_off_by_default_is_asked_to_think(tmp_path: Path) -> None:
    """Such is one that passes for R1-Distill's; the judge refused it, and no command could say otherwise."""
    model = model_folder(tmp_path / "model")
    config = json.loads((model / "tokenizer_config.json").read_text("utf-8"))
    closed = "{% if not enable_thinking %}</think>{% endif %}{% endif %}"
    config["chat_template"] = config["chat_template"].removesuffix("{% endif %}") + closed
    (model / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    with served(model, "thinkprm") as server:
        result = judged(two(tmp_path), tmp_path / "run", "thinkprm", server, model)
    assert [[v.score for v in j.verdicts] for j in result.judgements] == SCORES["thinkprm"]
