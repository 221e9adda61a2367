"""Configs are strict: an error names the wrong value and the nearest right one."""

from pathlib import Path

import pytest
from pydantic import Field, model_validator

from mmrl.core.config import Config, InputError, load, nearest


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


def test_a_null_takes_an_inherited_mapping_away(tmp_path: Path) -> None:
    written(tmp_path, "name: base\nmany: {x: {weight: 2}, y: {weight: 3}}", "base.yaml")
    top = written(tmp_path, "extends: base.yaml\nmany: {x: null}")
    assert list(load(Outer, top).many) == ["y"]
    assert list(load(Outer, top, ["many.y=null"]).many) == []


class Listed(Config):
    steps: list[Inner]
    wide: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _light(self) -> "Listed":
        if sum(step.weight for step in self.steps) > 10:
            raise ValueError("the steps weigh more than 10")
        return self


def test_an_override_reaches_into_a_list(tmp_path: Path) -> None:
    config = load(Listed, written(tmp_path, "steps: [{weight: 1}, {weight: 2}]"), ["steps.1.weight=3"])
    assert [step.weight for step in config.steps] == [1.0, 3.0]
    with pytest.raises(InputError, match=r"override steps\.2\.weight: '2' is no element of a list of 2; count from 0"):
        load(Listed, written(tmp_path, "steps: [{weight: 1}, {weight: 2}]"), ["steps.2.weight=3"])


def test_a_fault_of_a_whole_config_is_told_without_the_config(tmp_path: Path) -> None:
    place = written(tmp_path, "steps: [{weight: 11}]")
    with pytest.raises(InputError) as error:
        load(Listed, place)
    assert str(error.value) == f"{place}: the steps weigh more than 10"


def test_a_long_list_of_names_is_not_printed() -> None:
    names = [f"name_{number}" for number in range(200)]
    assert nearest("nam_17", names).startswith("did you mean name_17 or ")
    assert nearest("nam_17", names).endswith("? (200 are known)")
    assert nearest("qqq", names).startswith("known: name_0, name_1, name_10")
    assert nearest("qqq", names).endswith(" more")
    assert len(nearest("qqq", names)) < 300
