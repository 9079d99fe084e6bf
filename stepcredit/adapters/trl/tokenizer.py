"""A transformers tokenizer as `core.protocols.Tokenizer`: exact bytes of each token, so that steps end at tokens."""

from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from stepcredit.core.errors import UsageError
from stepcredit.engines.tokenizer import FileTokenizer


def policy_tokenizer(processing_class: Any) -> FileTokenizer:
    """The tokenizer that wrote the completions.

    Args:
        processing_class: what TRL was given: a fast tokenizer of transformers, or a processor that holds one.

    Raises:
        UsageError: if it is no fast tokenizer, or its decoder is not one whose bytes can be told token by token.
    """
    inner = getattr(processing_class, "tokenizer", processing_class)
    fast = getattr(inner, "backend_tokenizer", None)
    if fast is None:
        raise UsageError(f"{type(inner).__name__} is no fast tokenizer; load one with a tokenizer.json (use_fast=True)")
    copy: FastTokenizer = FastTokenizer.from_str(fast.to_str())
    return FileTokenizer(copy, getattr(inner, "eos_token", None))
