"""Configs are strict: an error names the wrong value and the nearest right one."""

from pathlib import Path

import pytest
from pydantic import Field

from mmrl.core.config import Config, InputError, load


class Inner(Config):
    weight: float = 1.0


class Outer(Config):
    name: str
    inner: Inner = Inner()
    many: dict[str, Inner] = Field(default_factory=dict)


def written(directory: Path, text: str, name: str = "a.yaml") -> Path:
    place = directory / name
    place.write_text(text)
    return place


def test_overrides_win_over_the_file_and_are_yaml(tmp_path: Path) -> None:
    config = load(Outer, written(tmp_path, "name: a\ninner: {weight: 2}"), ["inner.weight=0.5", "many.x.weight=3"])
    assert (config.name, config.inner.weight, config.many["x"].weight) == ("a", 0.5, 3.0)


def test_an_override_changes_one_place_of_an_alias(tmp_path: Path) -> None:
    config = load(Outer, written(tmp_path, "name: a\ninner: &x {weight: 2}\nmany: {y: *x}"), ["many.y.weight=3"])
    assert (config.inner.weight, config.many["y"].weight) == (2.0, 3.0)


@pytest.mark.parametrize("text", ["3e-4", "3.0e-4", "3E-04", ".3e-3"])
def test_exponents_are_numbers_with_or_without_a_point(text: str) -> None:
    weight = load(Outer, None, ["name=a", f"inner={{weight: {text}}}"]).inner.weight
    assert weight == pytest.approx(3e-4)
    assert read_yaml_value(text) == pytest.approx(3e-4)


def read_yaml_value(text: str) -> object:
    class Anything(Config):
        value: object

    return load(Anything, None, [f"value={text}"]).value


def test_a_file_extends_another_and_wins(tmp_path: Path) -> None:
    written(tmp_path, "name: base\ninner: {weight: 2}", "base.yaml")
    config = load(Outer, written(tmp_path, "extends: base.yaml\nname: top"))
    assert (config.name, config.inner.weight) == ("top", 2.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\ninner: {wieght: 2}", "unknown key inner.wieght (value 2); did you mean weight?"),
        ("name: a\nmany: {x: {wieght: 2}}", "unknown key many.x.wieght (value 2); did you mean weight?"),
        ("inner: {weight: 2}", "missing key name"),
        ("name: a\ninner: {weight: heavy}", "inner.weight: Input should be a valid number"),
        ("name: a\nname: b", "key 'name' is given twice"),
        ("name: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("- a\n- b", "expected a mapping"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError) as error:
        load(Outer, written(tmp_path, text))
    assert expected in str(error.value)


def test_a_missing_file_and_a_malformed_override_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no config file at"):
        load(Outer, tmp_path / "none.yaml")
    with pytest.raises(InputError, match="'name' is not of the form key=value"):
        load(Outer, None, ["name"])
