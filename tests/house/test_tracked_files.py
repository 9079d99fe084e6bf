"""Files: no secrets, no paths of one machine, links of the documents that lead somewhere, papers that are listed."""

import re

from house_source import PACKAGE, ROOT, modules, tracked

SECRETS = re.compile(
    r"hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{24,}|AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{36}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|xox[abp]-[0-9A-Za-z-]{20,}"
    r"|(?:api_key|token|secret|password)\s*=\s*[\"'][0-9a-f]{32,}[\"']"
)
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/\w+")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
PLACE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+/?)`((?: `[A-Za-z]\w*`)*)")
"""A path in backquotes, and the names in backquotes that follow it: functions and classes of that file."""

CODE = re.compile(r"`(\w+)`")
ARXIV = re.compile(r"arXiv[: ]?(\d{4}\.\d{4,5})")
TEXT = {".py", ".md", ".toml", ".txt", ".sh", ".html", ".js", ".css", ".json", ".jsonl", ".cff", ".yaml", ".yml", ""}


def texts() -> list[tuple[str, str]]:
    paths = [path for path in tracked() if path.suffix in TEXT]
    return [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8", errors="replace")) for path in paths]


def test_no_secrets() -> None:
    assert [name for name, text in texts() if SECRETS.search(text)] == []


def test_no_paths_of_one_machine() -> None:
    found = [(name, m.group()) for name, text in texts() if name != "LICENSE" for m in MACHINE_PATHS.finditer(text)]
    assert found == []


def test_links_of_the_documents_lead_somewhere() -> None:
    documents = [path for path in tracked() if path.suffix == ".md"]
    links = [(path, target) for path in documents for target in LINK.findall(path.read_text(encoding="utf-8"))]
    inside = [(path, target) for path, target in links if "://" not in target and not target.startswith("mailto:")]
    assert [f"{path.name}: {target}" for path, target in inside if not (path.parent / target).exists()] == []


def test_files_and_functions_that_tables_of_the_documents_name_are_there() -> None:
    missing: list[str] = []
    for document in (path for path in tracked() if path.suffix == ".md"):
        for cell in cells_of(document.read_text(encoding="utf-8")):
            for name, functions in PLACE.findall(cell):
                found = [place for place in (ROOT / name, PACKAGE / name, document.parent / name) if place.exists()]
                missing += [] if found else [f"{document.name}: {name}"]
                text = found[0].read_text(encoding="utf-8") if found and found[0].suffix == ".py" else ""
                wanted = CODE.findall(functions)
                missing += [
                    f"{document.name}: {name} {f}" for f in wanted if not re.search(rf"(def|class) {f}\b", text)
                ]
    assert missing == []


def cells_of(text: str) -> list[str]:
    """Cells of a document's tables."""
    return [cell for line in text.splitlines() if line.startswith("|") for cell in line.split("|")]


def test_every_paper_that_the_code_names_is_listed() -> None:
    listed = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    named = {(paper, m.name) for m in modules() for paper in ARXIV.findall(m.text)}
    assert sorted(f"{paper} in {name}" for paper, name in named if paper not in listed) == []
