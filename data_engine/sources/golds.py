"""The gold in the text of an answer, read by the functions of the table of tasks."""

from __future__ import annotations

from typing import Any

from data_engine.sources.base import RowError
from mmrl.core.config import InputError, nearest
from rewards.tasks.keys import GoldError
from rewards.tasks.table import TASKS, task_type


def check_task(task: str) -> str:
    """The task, if a gold of it can be read from the text of an answer."""
    kind = task_type(task)
    if kind.read is None:
        keys = ", ".join(key.name for key in kind.keys)
        hint = nearest(task, [name for name, known in TASKS.items() if known.read])
        raise InputError(f"task {task} cannot be read from answers: its answer, {keys}, is not a text; {hint}")
    return task


def gold(task: str, value: Any, question: str) -> dict[str, Any]:
    """The columns of a row that hold the gold: `value` (a text, number or list) answers a question with that text."""
    read = task_type(check_task(task)).read
    assert read is not None
    try:
        columns = read(value, question)
    except GoldError as error:
        raise RowError(error.reason, str(error)) from None
    if [key.name for key in task_type(task).keys][:1] == ["choice"] and isinstance(columns.get("answer"), str):
        return {**columns, "answer": {"choice": columns["answer"]}}  # a letter, even if an option reads the same
    return columns
