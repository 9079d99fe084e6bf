"""Files of a model on the Hugging Face hub: its tokenizer and chat template, by name, kept in the hub's own cache."""

from pathlib import Path

from stepcredit.core.errors import UsageError

_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def tokenizer_folder(name: str | Path) -> Path:
    """Folder with a model's tokenizer and chat template.

    Args:
        name: a folder, a `tokenizer.json` in one, or the id of a repository on the hub, such as
            `launch/ThinkPRM-1.5B`; its files are downloaded once, weights are not.

    Raises:
        UsageError: if it is neither, or the hub cannot be reached and the files are not in its cache.
    """
    place = Path(name)
    if place.is_dir():
        return place
    if place.is_file():
        return place.parent
    mend = "give the folder of the served model, or its id on the hub (owner/name)"
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise UsageError(f"no such folder; {mend}", item=str(name))
    from huggingface_hub import snapshot_download  # noqa: PLC0415 -- slow to load, and seldom needed
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        found = Path(snapshot_download(str(name), allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        why = " ".join(str(error).split())[:160]
        raise UsageError(f"no such folder, and the hub gave no files for it ({why}); {mend}", item=str(name)) from error
    if not (found / _FILES[0]).is_file():
        raise UsageError(f"the repository has no {_FILES[0]}; {mend}", item=str(name))
    return found
