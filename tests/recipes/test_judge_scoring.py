"""Reward models from the command line: a tiny one loaded here, the same scores in `judge` and `evaluate`, refusals."""

import asyncio
import json
from pathlib import Path

import pytest
from labelled_cases import solution, write_set
from recorded_cases import RIGHT, WRONG, call, row, write_rows
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from stepcredit.engines.chat_template import ChatTemplate
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.judges.discriminative.formats import MarkedFormat
from stepcredit.judges.discriminative.judge import DiscriminativeJudge
from stepcredit.recipes.report_run import saved_views
from stepcredit.store.run_folder import read_json
from stepcredit.testing import ScriptedServer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TOKENS = ("<|im_start|>", "<|im_end|>", "<extra_0>")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Qwen2.5-Math-PRM's, tiny and random, with a byte a token."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("prm")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in TOKENS])
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    told = {"eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(), num_key_value_heads=1, max_position_embeddings=2048,
        initializer_range=0.3, **sizes)  # fmt: skip
    backbone = transformers.Qwen2Model(config)
    score = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    weights = {f"model.{name}": tensor.clone() for name, tensor in backbone.state_dict().items()}
    weights |= {f"score.{name}": tensor.clone() for name, tensor in score.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config.save_pretrained(folder)
    return folder


def test_a_reward_model_loaded_here_gives_the_scores_of_its_judge(tmp_path: Path, model: Path) -> None:
    from stepcredit.engines.scoring import load_classifier

    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="a"), row(WRONG, name="b"))
    words = ("--judge", "discriminative", "--model", model, "--set", "checker.mode=string")
    assert call("judge", file, "--out", tmp_path / "run", *words) == 0
    shown = saved_views(tmp_path / "run").solutions
    form = MarkedFormat(FileTokenizer.load(model), ChatTemplate.load(model))
    with load_classifier(model) as classifier:
        judge = DiscriminativeJudge(classifier, form)
        assert judge.fingerprint == read_json(tmp_path / "run", "manifest.json")["judge"]["version"]
        asked = form.ask(row(RIGHT)["problem"], [step.text for step in shown[0].steps])
        assert asked is not None
        logits = asyncio.run(classifier.classify(asked.ids, asked.places)).values
    expected = torch.softmax(torch.tensor(logits), -1)[:, 1].tolist()
    assert [step.score for step in shown[0].steps] == pytest.approx(expected, abs=1e-6)
    assert len({step.score for view in shown for step in view.steps}) == 8


def test_it_is_evaluated_under_the_same_name(tmp_path: Path, model: Path) -> None:
    rows = [solution(f"s{k}", -1 if k % 2 else 1) for k in range(6)]
    file = write_set(tmp_path / "set.jsonl", *rows)
    words = ("--judge", "discriminative", "--model", model, "--set", "metrics.resamples=20")
    assert call("evaluate", file, "--out", tmp_path / "e", *words) == 0
    told = read_json(tmp_path / "e", "summary.json")
    assert told["coverage"]["answered"] == 6


def test_a_step_critic_is_asked_by_its_name(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="a"))
    said = "<verdicts>\n" + "".join(f"{k}: {'no' if k == 2 else 'yes'}\n" for k in range(4)) + "</verdicts>"
    with ScriptedServer(reply=lambda _: said) as server:
        words = ("--judge", "step-critic", "--server", server.url, "--set", "checker.mode=string")
        assert call("judge", file, "--out", tmp_path / "run", *words, "--set", "judge.variant=each") == 0
    scores = [step.score for step in saved_views(tmp_path / "run").solutions[0].steps]
    assert scores == [1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--judge", "discriminative"), "reads by a reward model; give --model"),
        (("--judge", "discriminative", "--model", "m", "--server", "http://localhost:1"), "give its folder"),
        (("--judge", "discriminative", "--model", "no/such", "--set", "judge.votes=2"), "judge.votes"),
        (("--judge", "discriminative", "--model", "./nowhere"), "no such folder"),
        (("--judge", "step-critic"), "asks a model; give --server"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    assert call("judge", file, "--out", tmp_path / "run", *words) == 2
    assert line in " ".join(capsys.readouterr().err.split())


def test_a_meta_reward_model_loaded_here_chooses_among_the_replies_of_spct(tmp_path: Path, model: Path) -> None:
    from stepcredit.engines.scoring import load_classifier
    from stepcredit.judges.outcome.meta_rater import MetaRater

    said = ["I looked closely. \\boxed{9}", "Hm. \\boxed{2}", "So it is. \\boxed{5}", "\\boxed{7}"]
    problem, number = row(RIGHT)["problem"], iter(range(4))
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT, name="a"))
    with ScriptedServer(reply=lambda _: said[next(number)]) as server:
        words = ("--judge", "spct", "--server", server.url, "--set", "checker.mode=string", "--set", "spct.votes=4")
        more = ("--set", "spct.kept=1", "--set", f"spct.meta={model}", "--set", "server.max_in_flight=1")
        assert call("judge", file, "--out", tmp_path / "run", *words, *more) == 0
    tokenizer, chat = FileTokenizer.load(model), ChatTemplate.load(model)

    async def trusted() -> list[float]:
        with load_classifier(model) as classifier:
            rater = MetaRater(classifier, tokenizer, chat)
            verdicts = [await rater.rate_critique(problem, [RIGHT], text) for text in said]
            return [verdict.score for verdict in verdicts if verdict.score is not None]

    rated = asyncio.run(trusted())
    best = said[max(range(4), key=lambda index: rated[index])]
    [line] = (tmp_path / "run" / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["reason"] == "sum of 1 of 4 replies"
    assert f"\\boxed{{{json.loads(line)['score']:.0f}}}" in best
    assert read_json(tmp_path / "run", "manifest.json")["judge"]["meta"] == str(model)
