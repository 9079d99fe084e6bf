"""Checkpoints of the embedded model in Hugging Face format: `transformers` loads them unchanged, and so do we."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from stepcredit.core.errors import EngineError
from stepcredit.engines.embedded.model import CausalLM, ModelConfig
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.store.files import FileWriter

CONFIG, WEIGHTS, GENERATION = "config.json", "model.safetensors", "generation_config.json"

_NAMES = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "hidden": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
}
"""Our names of sizes and Hugging Face's."""


def save_checkpoint(model: CausalLM, folder: str | Path, *, tokenizer: FileTokenizer | None = None) -> Path:
    """Write config, weights, generation config and, if given, the tokenizer's files.

    `config.json` is written last, so a folder that has one is whole.

    Raises:
        MachineError: if the folder cannot be written.
        StoreError: if the disk is full.
    """
    writer = FileWriter(Path(folder))
    eos = None if tokenizer is None else tokenizer.eos_id
    if tokenizer is not None:
        tokenizer.save(folder)
    generation = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "eos_token_id": eos}
    writer.write(GENERATION, json.dumps(generation, indent=1))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    writer.write(WEIGHTS, save_tensors(tensors, metadata={"format": "pt"}))
    writer.write(CONFIG, json.dumps(llama_config(model, eos_id=eos), indent=1))
    return writer.root


def load_checkpoint(folder: str | Path) -> CausalLM:
    """Read a model that `save_checkpoint` wrote, or any Llama of this shape without biases and tied weights.

    Raises:
        EngineError: if files are missing or damaged, or the model is another kind; the text says which.
    """
    root = Path(folder)
    config = config_of(_read_json(root / CONFIG), item=str(root / CONFIG))
    path = root / WEIGHTS
    if not path.is_file():
        raise EngineError(f"there is no {WEIGHTS}; is this a checkpoint folder?", item=str(root))
    try:
        tensors = load_tensors(path.read_bytes())
    except SafetensorError as error:
        raise EngineError(f"is damaged: {error}", item=str(path)) from error
    model = CausalLM(config)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise EngineError(f"does not fit its {CONFIG}: {error}", item=str(path)) from error
    return model.to(tensors["lm_head.weight"].dtype)


def llama_config(model: CausalLM, *, eos_id: int | None = None) -> dict[str, Any]:
    """The `config.json` of a model, as `transformers.LlamaConfig` reads it (old and new spelling of RoPE)."""
    config = model.config
    theta = config.rope_theta
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{theirs: getattr(config, ours) for ours, theirs in _NAMES.items()},
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": None,
        "dtype": str(model.lm_head.weight.dtype).removeprefix("torch."),
    }


def config_of(entries: dict[str, Any], *, item: str = CONFIG) -> ModelConfig:
    """Our settings from the entries of a Llama `config.json`.

    Raises:
        EngineError: for another architecture, or a feature that the embedded model lacks.
    """
    wanted = {"model_type": "llama", "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False}
    for name, value in wanted.items():
        found = entries.get(name, False if value is False else value)
        if found != value:
            raise EngineError(f"{name} is {found!r}, the embedded model needs {value!r}", item=item)
    rope = entries.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or entries.get("rope_scaling"):
        raise EngineError("scaled RoPE is not supported by the embedded model", item=item)
    theta = rope.get("rope_theta", entries.get("rope_theta"))
    missing = [theirs for theirs in _NAMES.values() if theirs not in entries]
    if missing or theta is None:
        raise EngineError(f"lacks {', '.join(missing or ['rope_theta'])}", item=item)
    config = ModelConfig(**{ours: entries[theirs] for ours, theirs in _NAMES.items()}, rope_theta=float(theta))
    if entries.get("head_dim") not in (None, config.head_dim):
        raise EngineError(f"head_dim {entries['head_dim']} is not hidden_size / heads {config.head_dim}", item=item)
    return config


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise EngineError("no such file; is this a checkpoint folder?", item=str(path))
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        raise EngineError(f"is not JSON: {error}", item=str(path)) from error
    if not isinstance(entries, dict):
        raise EngineError("should hold a JSON object", item=str(path))
    return entries
