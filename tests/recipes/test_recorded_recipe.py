"""A recipe of one's own for recorded solutions."""

from pathlib import Path

from recorded_cases import RIGHT, row, write_rows

from stepcredit.recipes.recorded.run import run_recorded
from stepcredit.recipes.recorded.settings import RECIPE, RecordedSettings


def test_what_recipes_prints_can_be_copied_changed_and_given_back(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "x.jsonl", row(RIGHT))
    mine = tmp_path / "mine.toml"
    mine.write_text(RECIPE.read_text().replace('splitter = "paragraph"', 'splitter = "newline"'))
    units: list[set[str]] = []
    for name, recipe in (("shipped", RECIPE), ("named", Path("recorded")), ("mine", mine)):
        asked = RecordedSettings(
            tmp_path / name, until="judge", recipe=recipe, overrides=("checker.mode=string", "limits.deaths=3")
        )
        units.append({judgement.steps.unit for judgement in run_recorded(file, asked).judgements})
    assert units == [{"paragraph"}, {"paragraph"}, {"line"}]
