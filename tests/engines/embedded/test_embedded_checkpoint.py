import json
from pathlib import Path

import pytest
import torch
from embedded_cases import V, packed, small_model

from stepcredit.core.errors import EngineError
from stepcredit.engines.embedded.checkpoint import config_of, llama_config, load_checkpoint, save_checkpoint
from stepcredit.engines.tokenizer import FileTokenizer

WORDS = [f"w{i}" for i in range(V - 1)]


@pytest.mark.parametrize("sizes", [{}, {"kv_heads": 2, "layers": 1}])
def test_transformers_loads_it_and_agrees(tmp_path: Path, sizes: dict[str, int]) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    model = small_model(**sizes)
    save_checkpoint(model, tmp_path, tokenizer=FileTokenizer.from_words(WORDS))
    theirs = LlamaForCausalLM.from_pretrained(tmp_path)
    ids, positions, starts = packed([40])
    with torch.no_grad():
        expected = theirs(input_ids=ids[None]).logits[0]
        torch.testing.assert_close(model(ids, positions, starts), expected, atol=1e-4, rtol=0)
    assert theirs.generation_config.eos_token_id == V - 1
    assert AutoTokenizer.from_pretrained(tmp_path)("w3 w0 <eos>")["input_ids"] == [3, 0, V - 1]


def test_what_transformers_saves_is_read(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    save_checkpoint(small_model(), tmp_path / "ours")
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    back = load_checkpoint(tmp_path / "theirs")
    assert back.config.rope_theta == 1000.0
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), small_model().parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_keeps_every_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    model = small_model().to(dtype)
    save_checkpoint(model, tmp_path)
    back = load_checkpoint(tmp_path)
    assert [back.config.dim, back.config.heads, back.config.max_positions] == [16, 4, 48]
    for (name, ours), theirs in zip(model.state_dict().items(), back.state_dict().values(), strict=True):
        assert ours.dtype == theirs.dtype, name
        assert torch.equal(ours, theirs), name
    assert torch.equal(back.rope.float(), small_model().rope) or dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen2"}, "model_type is 'qwen2', the embedded model needs 'llama'"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, "scaled RoPE"),
        ({"head_dim": 8}, "head_dim 8 is not"),
    ],
)
def test_other_architectures_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        config_of(llama_config(small_model()) | change)


def test_a_lacking_entry_is_named() -> None:
    entries = llama_config(small_model())
    del entries["hidden_size"]
    with pytest.raises(EngineError, match="lacks hidden_size"):
        config_of(entries)


def test_damaged_folders_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"config\.json: no such file"):
        load_checkpoint(tmp_path)
    save_checkpoint(small_model(), tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(EngineError, match="is damaged"):
        load_checkpoint(tmp_path)
    save_checkpoint(small_model(layers=1), tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(EngineError, match=r"does not fit its config\.json"):
        load_checkpoint(tmp_path)
    weights.unlink()
    with pytest.raises(EngineError, match=r"there is no model\.safetensors"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(EngineError, match="JSON object"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({})[:1])
    with pytest.raises(EngineError, match="is not JSON"):
        load_checkpoint(tmp_path)
