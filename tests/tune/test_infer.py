from __future__ import annotations

from pathlib import Path

import pytest

from tfapp.errors import Missing, Usage
from tfapp.tune.infer import infer


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_columns_of_numbers_and_categories_are_a_table(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "age,city,income", *(f"{n},town {n % 3},{n % 2}" for n in range(50)))
    found = infer(path, "income")
    assert (found.recipe, found.words) == ("tabular", (f"data={path}", "target=income"))


def test_a_column_of_sentences_is_text(tmp_path: Path) -> None:
    rows = (f"this is the review number {n} of them,{n % 2}" for n in range(50))
    found = infer(written(tmp_path / "r.csv", "review,stars", *rows), "stars")
    assert found.recipe == "text_classification" and "text=review" in found.words and "label=stars" in found.words


def test_a_folder_of_images_needs_no_target(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.JPG").touch()
    assert infer(tmp_path, None).recipe == "image_folder"
    with pytest.raises(Usage, match="the folders are the classes"):
        infer(tmp_path, "cat")


def test_what_cannot_be_inferred_is_told_with_the_way_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "age,income", "1,2")
    with pytest.raises(Usage, match="give --target"):
        infer(path, None)
    with pytest.raises(Usage, match="no column 'incme'\ndid you mean 'income'"):
        infer(path, "incme")
    with pytest.raises(Missing, match="no data at"):
        infer(tmp_path / "none.csv", "x")
    with pytest.raises(Usage, match="cannot read"):
        infer(written(tmp_path / "a.docx"), "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Usage, match="holds no images"):
        infer(tmp_path / "empty", None)
