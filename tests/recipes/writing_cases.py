"""A served checkpoint for judges that write: its tokenizer folder, and a server that answers as it would."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from stepcredit.core.protocols import Writing
from stepcredit.engines.tokenizer import FileTokenizer
from stepcredit.testing import Manners, ScriptedServer, ScriptedWriter

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
SPECIALS = (EOS, "<｜User｜>", "<｜Assistant｜>", BOS, "<think>", "</think>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}<｜User｜>{% elif m.role == 'assistant' %}<｜Assistant｜>{% endif %}{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
_MERGES = [("Y", "e"), ("Ye", "s"), ("N", "o"), ("Ġ", "Yes"), ("Ġ", "No"), ("y", "e"), ("ye", "s"), ("n", "o")]
_MERGES += [("Ġ", "yes"), ("Ġ", "no")]


def model_folder(folder: Path, *, words: tuple[str, ...] = ()) -> Path:
    """Tokenizer and chat template as a model's repository has them; more `words` make another tokenizer."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for one, two in _MERGES:
        vocabulary[one + two] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, _MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
    tokenizer.add_tokens(list(words))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    config = {"bos_token": BOS, "eos_token": EOS, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def thinkprm_reply(prompt: str, _: Writing) -> str:
    """A critique that sees `= 20` in a step and nothing else."""
    steps = prompt.partition("[Solution]\n\n")[2].partition("\n\nReview")[0].split("\n")
    said = [f"{step.partition(':')[0]}: \\boxed{{{'incorrect' if '= 20' in step else 'correct'}}}." for step in steps]
    cut = next((k for k, line in enumerate(said) if "incorrect" in line), len(said))
    return "\n".join(said[: cut + 1])


def thinkprm_next(prompt: str) -> dict[str, float]:
    return {" Yes": 0.1, " No": 0.8} if "{incorrect}" in prompt else {" Yes": 0.6, " No": 0.2}


def genprm_reply(_prompt: str, _: Writing) -> str:
    return "I look at it.\n</analyze>\n"


def genprm_next(prompt: str) -> dict[str, float]:
    step = prompt.rpartition("<｜User｜>")[2].partition("<｜Assistant｜>")[0]
    return {"Yes": 0.1, "No": 0.8} if "= 20" in step else {"Yes": 0.8, "No": 0.1}


def served(folder: Path, judge: str, *, reply: Any = None, following: Any = None, **more: Any) -> ScriptedServer:
    """A server of the checkpoint in the folder; `more` are `faults`, or manners by name."""
    tokenizer = FileTokenizer.load(folder)
    scripts = {"thinkprm": (thinkprm_reply, thinkprm_next), "genprm": (genprm_reply, genprm_next)}[judge]
    writer = ScriptedWriter(tokenizer, reply or scripts[0], following or scripts[1])
    faults = more.pop("faults", ())
    return ScriptedServer(tokenizer=tokenizer, writer=writer, faults=faults, manners=Manners(**more))
