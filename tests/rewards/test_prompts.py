"""The `prompt:` block: what is laid around a question, and the stock prompts it can name."""

from __future__ import annotations

from typing import Any

import pytest

from data_engine.schema import user_prompt
from mmrl.core.config import InputError, validate
from mmrl.core.messages import pieces_of
from rewards.forms import MARKS, marks_of
from rewards.prompt_form import PLAIN, PromptForm
from rewards.registry import REWARDS
from rewards.stock_prompts import STOCK
from rewards.tasks.table import TASKS


def form(**block: Any) -> PromptForm:
    return validate(PromptForm, block, where="a.yaml")


def pieces(messages: list[dict[str, Any]]) -> list[list[str]]:
    return [[message["role"], *pieces_of(message["content"])] for message in messages]


def test_stock_prompts_name_registered_rewards_and_ask_for_what_these_read() -> None:
    for name, stock in STOCK.items():
        unknown = set(stock.read_by) - REWARDS.keys()
        assert not unknown, f"rewards/stock_prompts.py: {name} is read by {unknown}, which are no rewards"
    asked = {reward for stock in STOCK.values() for reward in stock.read_by}
    rules = {task.rule for task in TASKS.values() if task.rule} | MARKS.keys()
    assert not rules - asked, f"rewards/stock_prompts.py: no prompt asks for what {sorted(rules - asked)} read"
    for reward in MARKS:
        marks = marks_of(reward, {})
        texts = [stock.text.casefold() for stock in STOCK.values() if reward in stock.read_by]
        assert any(all(mark.casefold() in text for mark in marks) for text in texts), f"{reward} wants {marks}"


def test_texts_are_laid_around_the_question_and_media_keep_their_places() -> None:
    asked = user_prompt("Is <image> like <image>", ["image", "image"])
    block = form(
        tasks={"yesno": {"template": "Look. {question} Say it: {yes} or {no}."}, "ocr": {"suffix": "Be exact."}}
    )
    assert pieces(block.asked(asked, "yesno")) == [
        ["user", "Look. Is ", "<image>", " like ", "<image>", " Say it: {yes} or {no}."]
    ]
    assert pieces(block.asked(user_prompt("Read.", ["video"]), "ocr")) == [["user", "<video>", "Read.\nBe exact."]]
    assert block.asked(asked, "choice") == asked
    assert PLAIN.asked(asked, "yesno") == asked
    assert pieces(asked) == [["user", "Is ", "<image>", " like ", "<image>"]], "the sample itself was changed"


def test_the_last_question_of_a_talk_is_meant_and_its_system_message_is_replaced() -> None:
    talk = [
        {"role": "system", "content": "Old."},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Then?"},
    ]
    block = form(system=["Count well.", "think_answer"], tasks={"count": {"suffix": "number_only"}})
    rows = pieces(block.asked(talk, "count"))
    assert rows[0] == ["system", f"Count well. {STOCK['think_answer'].text}"]
    assert rows[1:] == [
        ["user", "First?"],
        ["assistant", "Yes."],
        ["user", f"Then?\n{STOCK['number_only'].text}"],
    ]
    assert pieces(form().asked(talk, "count"))[0] == ["system", "Old."]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"system": "think_anwser"}, "no stock prompt 'think_anwser'; did you mean think_answer"),
        ({"system": " "}, "the text is blank"),
        ({"tasks": {"choice": {}}}, "give a suffix or a template"),
        ({"tasks": {"choice": {"suffix": "letter_only", "template": "{question} x"}}}, "give a suffix or a template"),
        ({"tasks": {"choice": {"template": "No place."}}}, "a template has {question} once"),
        ({"tasks": {"choice": {"sufix": "letter_only"}}}, "unknown key tasks.choice.sufix"),
        ({"chat_template_kwargs": {"add_generation_prompt": False}}, "add_generation_prompt is no variable"),
    ],
)
def test_a_wrong_block_is_named(block: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        form(**block)
    assert message in str(refused.value)
    assert len(str(refused.value)) <= 500


def test_a_task_that_nobody_knows_is_refused() -> None:
    block = form(tasks={"choise": {"suffix": "letter_only"}, "my_task": {"suffix": "Be kind."}})
    with pytest.raises(InputError, match="unknown task 'choise'; did you mean choice"):
        block.check_tasks(["my_task"])
    form(tasks={"my_task": {"suffix": "Be kind."}}).check_tasks(["my_task"])


def test_the_protocol_holds_the_texts_and_reads_back() -> None:
    block = form(tasks={"choice": {"suffix": "letter_only"}})
    assert block.protocol() == {"tasks": {"choice": {"suffix": STOCK["letter_only"].text}}}
    assert form(**block.protocol()) == block
    assert PLAIN.protocol() == {}
