"""What TRL users pass to the trainer: rows, rewards, paths; or a line that says what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from data_engine.dataset.shards import read_samples, write_dataset
from mmrl.core.config import InputError
from mmrl.tools.functions import crop
from mmrl.trainers import given
from rewards import Rollout, Suite
from tests.support.training import questions

ASK = [{"role": "user", "content": "How many?"}]


def picture(shade: int = 0) -> Image.Image:
    return Image.new("RGB", (56, 28), (shade, 0, 0))


def read(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return taken(datasets.Dataset.from_list(list(rows)))


def taken(data: Any) -> list[dict[str, Any]]:
    made: Any = given.rows(data)
    return list(made)


def test_the_columns_of_trl_become_rows() -> None:
    one, two = read(
        {"prompt": ASK, "images": [picture(), picture(9)], "solution": "<answer> 3 </answer>", "level": "easy"},
        {"prompt": ASK, "images": [picture(1)], "solution": "4", "level": "hard"},
    )
    assert [part["type"] for part in one["prompt"][0]["content"]] == ["image", "image", "text"]
    assert [(item.width, item.height) for item in one["media"]] == [(56, 28)] * 2
    assert (one["answer"], one["task"], one["meta"]["level"]) == ({"text": ["3"]}, "text", "easy")
    assert one["meta"]["solution"] == "<answer> 3 </answer>"
    assert one["id"] != two["id"]


def test_a_task_gives_the_answer_its_keys_and_a_text_its_markers() -> None:
    row = {"prompt": "Locate <image> the cup.", "image": picture(), "task": "grounding", "answer": [1.0, 2.0, 9.0, 9.0]}
    [one] = read(row)
    assert one["answer"] == {"boxes": [[1.0, 2.0, 9.0, 9.0]]}
    assert [part["type"] for part in one["prompt"][0]["content"]] == ["text", "image", "text"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "hello"}, "the data have no column prompt; they have text"),
        (
            {"prompt": "How many?", "task": "count"},
            "row 0 of the data: no_answer: row 0: task count needs the answer keys",
        ),
        ({"prompt": "Is <image> it?", "solution": "yes"}, r"row 0 of the data: the text marks \['image'\]"),
        ({"prompt": "?", "image": "nowhere.png"}, "row 0 of the data: .*nowhere.png"),
        ({"prompt": ["a", "b"], "solution": "x"}, "row 0 of the data"),
    ],
)
def test_rows_that_cannot_be_read_say_which_and_why(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(row)


def test_what_is_no_dataset_is_refused() -> None:
    whole = datasets.DatasetDict({"train": datasets.Dataset.from_list([{"prompt": "?"}])})
    for data, message in (
        (whole, "with the splits train: give one of them"),
        (iter([]), "the data are a list_iterator"),
    ):
        with pytest.raises(InputError, match=message):
            given.rows(data)


def test_a_built_dataset_is_taken_as_a_folder_and_as_a_loaded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(questions("ti", tmp_path / "media"), tmp_path / "data")
    ids = [sample.id for sample in read_samples(tmp_path / "data")]
    assert [row["id"] for row in taken(str(tmp_path / "data"))] == ids
    shards = str(tmp_path / "data" / "shards" / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=shards, split="train", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"lie in the dataset's folder .*; give that folder as the data"):
        given.rows(loaded)
    monkeypatch.chdir(tmp_path / "data")
    assert [row["id"] for row in taken(loaded)] == ids


def test_a_function_for_trl_gets_messages_or_texts_and_the_columns() -> None:
    seen: dict[str, Any] = {}

    def right(prompts: Any, completions: Any, solution: Any, **columns: Any) -> list[float]:
        seen.update(prompts=prompts, completions=completions, solution=solution, **columns)
        return [1.0] * len(completions)

    [row] = read({"prompt": "How many?", "solution": "4", "level": "easy"})
    rollout = Rollout("4", row["answer"], row["task"], row["prompt"], meta=row["meta"])
    assert Suite.of(right).score([rollout])[0]["right"].score == 1.0
    assert (seen["prompts"], seen["completions"], seen["solution"]) == (["How many?"], ["4"], ["4"])
    assert (seen["level"], seen["task"]) == (["easy"], ["text"])
    [row] = read({"prompt": ASK, "solution": "4"})
    Suite.of(right).score([Rollout("4", row["answer"], row["task"], row["prompt"], meta=row["meta"])])
    assert seen["completions"] == [[{"role": "assistant", "content": "4"}]]


def test_tools_are_names_or_functions_of_a_module() -> None:
    settings = given.tools(["zoom", crop], {})
    assert settings is not None
    assert settings.tools == ["zoom", "mmrl.tools.functions:crop"]
    assert given.tools(settings, {"peft_config": None}) is settings
    assert given.tools([], {}) is None
    for wrong, others, message in (
        ([lambda: None], {}, "put it into a module that can be imported"),
        (["zoom"], {"environment_factory": object}, "environment_factory draws completions by itself"),
        (None, {"rollout_func": print}, "rollout_func draws completions by itself"),
    ):
        with pytest.raises(InputError, match=message):
            given.tools(wrong, others)


def test_rewards_are_given_once_and_weights_belong_to_a_list() -> None:
    class Arguments:
        reward_weights: list[float] | None = None

    with pytest.raises(InputError, match="give the rewards, once"):
        given.suite(None, None, Arguments())
    with pytest.raises(InputError, match="give the rewards, once"):
        given.suite(["think_format"], ["think_format"], Arguments())
    weighted = Arguments()
    weighted.reward_weights = [1.0, 0.5]
    assert given.suite(None, ["think_format", len], weighted).weights == [1.0, 0.5]
    assert weighted.reward_weights is None
    weighted.reward_weights = [1.0]
    with pytest.raises(InputError, match="1 weights for the rewards think_format, len"):
        given.suite(None, ["think_format", len], weighted)
