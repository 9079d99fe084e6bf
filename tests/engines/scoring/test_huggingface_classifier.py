"""Local reward models against a plain transformers forward pass: models tiny and random, loading real."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stepcredit.core import judge_parts
from stepcredit.core.errors import EngineError, UsageError
from stepcredit.engines.scoring import HuggingFaceClassifier, ScoringSettings, load_classifier

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
}
REMOTE = {"AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel"}


def reward_model(folder: Path, *, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """A folder as Qwen2.5-Math-PRM's: `model.*` and `score.*` weights, a config that names remote code; both parts."""
    torch.manual_seed(seed)
    backbone = transformers.Qwen2Model(transformers.Qwen2Config(**SIZES)).eval()
    width = SIZES["hidden_size"]
    score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)).eval()
    folder.mkdir(parents=True)
    weights = {f"model.{name}": tensor for name, tensor in backbone.state_dict().items()}
    weights |= {f"score.{name}": tensor for name, tensor in score.state_dict().items()}
    save_file(
        {name: tensor.clone() for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    config = {**backbone.config.to_dict(), "architectures": ["Qwen2ForProcessRewardModel"], "auto_map": REMOTE}
    (folder / "config.json").write_text(json.dumps(config))
    return backbone, score


def causal_model(folder: Path) -> nn.Module:
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES)).eval()
    model.save_pretrained(folder)
    return model


def texts(count: int, *, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 61, int(rng.integers(1, 90))).astype(np.int32) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("prm") / "model"
    reward_model(place)
    return place


def test_the_head_is_loaded_by_name_and_equals_a_forward_pass(folder: Path) -> None:
    backbone, score = reward_model(folder.parent / "again")
    with load_classifier(folder) as local:
        classifier: judge_parts.TokenClassifier = local
        assert classifier.classes == 2
        assert asyncio.run(classifier.context()) == 96
        for ids in texts(8):
            places = np.unique(np.random.default_rng(1).integers(0, len(ids), 5))
            found = asyncio.run(classifier.classify(ids, places))
            with torch.no_grad():
                want = score(backbone(torch.tensor(ids[None].astype(np.int64))).last_hidden_state)[0, places].numpy()
            np.testing.assert_allclose(found.values, want, atol=1e-4)
            assert found.calls == ()


def test_candidates_of_a_causal_lm_equal_a_forward_pass(tmp_path: Path) -> None:
    model = causal_model(tmp_path / "model")
    with load_classifier(tmp_path / "model", candidates=np.array([7, 3, 60])) as classifier:
        for ids in texts(5):
            places = np.array([0, len(ids) - 1]) if len(ids) > 1 else np.array([0])
            found = asyncio.run(classifier.classify(ids, places)).values
            with torch.no_grad():
                want = model(torch.tensor(ids[None].astype(np.int64))).logits[0, places][:, [7, 3, 60]].numpy()
            np.testing.assert_allclose(found, want, atol=1e-4)
    assert classifier.classes == 3


@pytest.mark.parametrize("batch_tokens", [1, 200, 16384])
@pytest.mark.parametrize("kind", ["head", "candidates"])
def test_texts_that_share_a_pass_get_what_they_get_alone(
    folder: Path, tmp_path: Path, kind: str, batch_tokens: int
) -> None:
    settings = ScoringSettings(batch_tokens=batch_tokens)
    if kind == "candidates":
        causal_model(tmp_path / "model")
        made = load_classifier(tmp_path / "model", candidates=np.array([1, 2]), settings=settings)
    else:
        made = load_classifier(folder, settings=settings)

    async def together() -> list[np.ndarray]:
        asked = [made.classify(ids, np.arange(0, len(ids), 7)) for ids in texts(12)]
        return [each.values for each in await asyncio.gather(*asked)]

    with made:
        found = asyncio.run(together())
        for ids, values in zip(texts(12), found, strict=True):
            alone = asyncio.run(made.classify(ids, np.arange(0, len(ids), 7))).values
            np.testing.assert_allclose(values, alone, atol=1e-4)


def test_what_comes_later_changes_nothing_earlier(folder: Path) -> None:
    ids = texts(1)[0]
    with load_classifier(folder) as made:
        whole = asyncio.run(made.classify(ids, np.arange(5))).values
        np.testing.assert_allclose(asyncio.run(made.classify(ids[:5], np.arange(5))).values, whole, atol=1e-4)


def test_what_does_not_fit_is_refused(folder: Path) -> None:
    with load_classifier(folder, settings=ScoringSettings(context=10)) as made:
        assert asyncio.run(made.context()) == 10
        for ids, places, message in (
            (np.zeros(11, np.int32), [0], "11 tokens do not fit the model's 10"),
            (np.zeros(4, np.int32), [4], r"places must be in 0\.\.3, got 4\.\.4"),
            (np.array([61]), [0], "outside the vocabulary of 61"),
        ):
            with pytest.raises(EngineError, match=message):
                asyncio.run(made.classify(ids, np.array(places)))
        assert asyncio.run(made.classify(np.arange(3), np.zeros(0, np.int32))).values.shape == (0, 2)
    with pytest.raises(EngineError, match="the reward model is closed"):
        asyncio.run(made.classify(np.arange(3), np.array([0])))


def test_a_pass_that_fails_answers_every_text_and_the_next_one_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = load_classifier(folder)
    forward = made._forward

    async def two() -> list[object]:
        asked = [made.classify(np.arange(3), np.array([1])), made.classify(np.arange(4), np.array([1]))]
        return await asyncio.gather(*asked, return_exceptions=True)

    with made:
        monkeypatch.setattr(made, "_forward", lambda jobs: {}[0])
        assert all("failed: KeyError" in str(error) for error in asyncio.run(two()))
        monkeypatch.setattr(made, "_forward", lambda jobs: [np.full((1, 2), np.nan, np.float32) for _ in jobs])
        assert all("not finite" in str(error) for error in asyncio.run(two()))
        monkeypatch.setattr(made, "_forward", forward)
        assert all(isinstance(found, judge_parts.ClassLogits) for found in asyncio.run(two()))


def test_a_cancelled_request_leaves_the_others_alone(folder: Path) -> None:
    async def go(made: HuggingFaceClassifier) -> judge_parts.ClassLogits:
        gone = asyncio.ensure_future(made.classify(np.arange(9), np.array([8])))
        await asyncio.sleep(0)
        gone.cancel()
        found = await made.classify(np.arange(4), np.array([1]))
        assert gone.cancelled()
        return found

    with load_classifier(folder) as made:
        assert asyncio.run(go(made)).values.shape == (1, 2)


def test_weights_and_candidates_are_part_of_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    reward_model(tmp_path / "other", seed=1)
    causal_model(tmp_path / "causal")
    same = [load_classifier(folder).fingerprint, load_classifier(folder).fingerprint]
    assert same[0] == same[1]
    others = [
        load_classifier(tmp_path / "other").fingerprint,
        load_classifier(tmp_path / "causal", candidates=np.array([1, 2])).fingerprint,
        load_classifier(tmp_path / "causal", candidates=np.array([2, 1])).fingerprint,
        load_classifier(folder, settings=ScoringSettings(context=9)).fingerprint,
    ]
    assert len({*same, *others}) == 5


def test_a_hub_id_is_read_from_the_hubs_cache(tmp_path: Path) -> None:
    """In a process of its own, offline, with a cache laid out as the hub's client lays it out."""
    snapshot = tmp_path / "hub" / "models--tiny--prm" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    reward_model(snapshot)
    (tmp_path / "hub" / "models--tiny--prm" / "refs").mkdir()
    (tmp_path / "hub" / "models--tiny--prm" / "refs" / "main").write_text("abc")
    code = (
        "from stepcredit.engines.scoring import load_classifier\n"
        "from stepcredit.core.errors import MachineError\n"
        "print(load_classifier('tiny/prm').fingerprint)\n"
        "try: load_classifier('tiny/none')\n"
        "except MachineError as error: print(error)\n"
    )
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=600
    )
    lines = done.stdout.splitlines()
    assert lines[0] == load_classifier(snapshot).fingerprint
    assert lines[1].startswith("tiny/none: the hub cannot be reached and its cache lacks the model")


def broken(folder: Path, change) -> Path:
    place = folder.parent / "broken"
    reward_model(place)
    weights = change(load_file(place / "model.safetensors"))
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    return place


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: {k: v for k, v in w.items() if "score" not in k},
            r"no score\.\* weights, so no class head; give cand",
        ),
        (lambda w: w | {"score.4.weight": torch.ones(2, 2)}, "the class head .* is not known; known: score.weight, or"),
        (lambda w: {k: v for k, v in w.items() if k != "score.2.weight"}, "is not known"),
        (lambda w: {k: v for k, v in w.items() if "layers.1" not in k}, "the files lack [0-9]+ weights of Qwen2Model"),
        (lambda w: w | {"score.0.weight": torch.ones(32, 31)}, "does not take hidden states of width 32"),
    ],
)
def test_a_model_that_is_none_is_refused_by_name(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_classifier(broken(tmp_path / "x", change))


def test_a_head_of_one_layer_is_known(tmp_path: Path) -> None:
    def one(weights):
        kept = {k: v for k, v in weights.items() if not k.startswith("score.")}
        return kept | {"score.weight": torch.ones(2, 32)}

    with load_classifier(broken(tmp_path / "x", one)) as made:
        values = asyncio.run(made.classify(np.arange(3), np.array([2]))).values
    assert values[0, 0] == pytest.approx(values[0, 1])


def test_bad_sources_and_settings_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, message in (
        (tmp_path / "empty", r"no \.safetensors file"),
        ("no/such/folder", "neither a folder nor a hub"),
    ):
        with pytest.raises(UsageError, match=message):
            load_classifier(source)
    with pytest.raises(UsageError, match="dtype must be float32, bfloat16 or float16, got 'int4'"):
        load_classifier(folder, dtype="int4")
    with pytest.raises(UsageError, match="must be positive"):
        ScoringSettings(batch_tokens=0)
    module = transformers.Qwen2Model(transformers.Qwen2Config(**SIZES))
    with pytest.raises(UsageError, match="give one of the two"):
        HuggingFaceClassifier(module, name="x")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{}")
    save_file({"score.weight": torch.ones(2, 32)}, tmp_path / "bad" / "model.safetensors")
    with pytest.raises(UsageError, match="transformers cannot load the model"):
        load_classifier(tmp_path / "bad")
