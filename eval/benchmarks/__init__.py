"""Published benchmarks under their names: a plain table of the tasks that the family files declare."""

from __future__ import annotations

from eval.benchmarks import (
    captions,
    choice,
    descriptions,
    detection,
    documents,
    editing,
    exams,
    grounding,
    hallucination,
    mathematics,
    video,
)
from eval.benchmarks.base import Task
from mmrl.core.config import InputError, nearest

FAMILIES = (
    *(grounding, detection, choice, exams, documents, mathematics),
    *(hallucination, descriptions, captions, editing, video),
)
BENCHMARKS: dict[str, Task] = {task.name: task for family in FAMILIES for task in family.TASKS}


def named(name: str) -> Task:
    """The registered benchmark of that name."""
    if name not in BENCHMARKS:
        raise InputError(f"no benchmark {name!r}; {nearest(name, BENCHMARKS)}")
    return BENCHMARKS[name]
