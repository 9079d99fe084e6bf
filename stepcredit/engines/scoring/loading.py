"""Reward models by folder or hub id: the backbone by transformers, the class head from its own weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from jaxtyping import Int32
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from stepcredit.core.errors import MachineError, UsageError
from stepcredit.engines.learner.weights import weights_fingerprint
from stepcredit.engines.scoring.huggingface import HuggingFaceClassifier, ScoringSettings

_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
_HEAD = "score."


def load_classifier(
    source: str | Path,
    *,
    candidates: Int32[np.ndarray, " C"] | None = None,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    settings: ScoringSettings | None = None,
) -> HuggingFaceClassifier:
    """A reward model, loaded from a folder or from the Hugging Face hub (or its cache).

    Without candidates the model's class head is read from its `score.*` weights: one linear layer, or two with a
    ReLU between them, as Qwen2.5-Math-PRM has it; class 1 is `right` there. No code of the repository is run. The head
    works in float32 whatever `dtype` says.

    Args:
        source: a folder, or a hub id such as `Qwen/Qwen2.5-Math-PRM-7B`.
        candidates: [C] token ids whose logits a causal LM is asked for, such as those of `+` and `-`.
        revision: branch, tag or commit on the hub.
        device: where the model works, such as `cuda:0`.
        dtype: of the backbone: `float32`, `bfloat16` or `float16`.
        settings: sizes.

    Raises:
        UsageError: if there is no such model, or it has no class head that is known, or has it in no safetensors.
        MachineError: if the hub cannot be reached.

    Source: the model card of Qwen2.5-Math-PRM-7B (arXiv:2501.07301). Differs: the head is ours, loaded by name.
    """
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}.get(dtype)
    if kind is None:
        raise UsageError(f"dtype must be float32, bfloat16 or float16, got {dtype!r}")
    folder = model_folder(source, revision=revision)
    head = None if candidates is not None else head_of(_head_weights(folder), name=str(source))
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        auto: Any = AutoModelForCausalLM if head is None else AutoModel
        module, info = auto.from_pretrained(
            folder, config=config, dtype=kind, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(f"transformers cannot load the model: {str(error)[:300]}", item=str(source)) from error
    if missing := sorted(info["missing_keys"]):  # transformers would make them up at random
        some = ", ".join(missing[:3])
        raise UsageError(f"the files lack {len(missing)} weights of {type(module).__name__}: {some}", item=str(source))
    module.to(device)
    whole = nn.ModuleList([module] if head is None else [module, head.to(device)])
    name = weights_fingerprint(whole)
    return HuggingFaceClassifier(module, name=name, head=head, candidates=candidates, settings=settings)


def model_folder(source: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a model: the folder itself, or where the hub's files were put.

    Raises:
        UsageError: if it is neither a folder nor a hub id, or the hub has no such model.
        MachineError: if the hub cannot be reached and the model is not in the cache.
    """
    place = Path(source)
    if place.is_dir():
        return place
    try:
        folder = Path(snapshot_download(str(source), revision=revision, allow_patterns=_FILES))
        if any(folder.glob("*.safetensors")):
            return folder
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=[*_FILES, "*.bin"]))
    except HFValidationError as error:
        raise UsageError("is neither a folder nor a hub id like OWNER/NAME", item=str(source)) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        mend = "check the network, or give a folder"
        raise MachineError(
            f"the hub cannot be reached and its cache lacks the model; {mend}", item=str(source)
        ) from error
    except HfHubHTTPError as error:
        mend = "check id and revision, and log in if the model asks for it"
        raise UsageError(f"the hub does not give this model ({str(error)[:200]}); {mend}", item=str(source)) from error


def head_of(weights: Mapping[str, Tensor], *, name: str) -> nn.Module:
    """The class head that `score.*` weights stand for, in float32.

    Args:
        weights: by name without `score.`: `weight`; or `0.weight`, `2.weight`; biases where there are any.
        name: the model's, for messages.

    Raises:
        UsageError: if there are none, or they are those of another kind of head.

    >>> head_of({"weight": torch.ones(2, 3)}, name="tiny")(torch.ones(1, 3)).tolist()
    [[3.0, 3.0]]
    """
    if not weights:
        mend = "give candidates if it is a causal LM that writes + or -"
        raise UsageError(f"the model has no {_HEAD}* weights, so no class head; {mend}", item=name)
    numbers = sorted({key.rpartition(".")[0] for key in weights})
    if numbers not in ([""], ["0", "2"]) or any(f"{n}.weight".lstrip(".") not in weights for n in numbers):
        known = "score.weight, or score.0 and score.2"
        raise UsageError(f"the class head {', '.join(sorted(weights))} is not known; known: {known}", item=name)
    layers = [_linear(weights, n) for n in numbers]
    return layers[0] if len(layers) == 1 else nn.Sequential(layers[0], nn.ReLU(), layers[1])


def _linear(weights: Mapping[str, Tensor], number: str) -> nn.Linear:
    prefix = f"{number}." if number else ""
    weight, bias = weights[f"{prefix}weight"].float(), weights.get(f"{prefix}bias")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias.float())
    return layer


def _head_weights(folder: Path) -> dict[str, Tensor]:
    """Tensors of the class head, by name without `score.`; of other tensors only the names are read."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError("the folder holds no .safetensors file; convert the weights first", item=str(folder))
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                names = [name for name in opened.keys() if name.startswith(_HEAD)]  # noqa: SIM118 -- no mapping
                found |= {name.removeprefix(_HEAD): opened.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise UsageError(f"cannot be read: {error}", item=str(file)) from error
    return found
