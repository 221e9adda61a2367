"""The table of tasks. To add one, write its entry in TASKS: validation, the reading of rows, verification, training
targets, the workbench, pages and cards take what they need from it. The tests of `tests/rewards/test_tasks.py` hold
its `example`, rule and gold against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmrl.core.config import InputError, nearest
from rewards.parse.objects import points
from rewards.parse.regions import boxes
from rewards.parse.spans import spans
from rewards.tasks import golds as gold
from rewards.tasks import keys as key
from rewards.tasks.keys import Answer, AnswerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskType:
    """A kind of question: what its answers look like, and what is done with them."""

    example: dict[str, Any]  # an answer that is right, for tests and docs
    keys: tuple[AnswerKey, ...]  # that an answer must have; what a row calls `answer` is the first
    rule: str | None = None  # the registered reward that scores it by rule; None: it is judged
    golds: gold.Golds | None = None  # all texts that are right, the one to learn first; None: there is no such text
    read: gold.Read | None = gold.as_it_is  # the gold in the text of an answer; None: a text cannot say it
    choices: Callable[[Answer], Sequence[str]] | None = None  # all answers that can be given, where they are few
    thought: Callable[[Answer], str] | None = (
        None  # what an answer to learn thinks; default: the sample's own rationale
    )
    completion: Callable[[Answer], str] | None = None  # all that is to be learnt, where it is not thought and answer
    form: str = ""  # how thought and answer stand in what is to be learnt; default: that of the training
    inline: str = "{}"  # how a gold is set apart from the words around it
    needs: Callable[[Answer], str] = lambda _: ""  # what an answer lacks, in words, beyond the form of its keys
    category: str = "visual-question-answering"  # what the hub calls it

    @property
    def regions(self) -> str | None:
        """The key of the answer's boxes, points or spans, if these are the answer."""
        return self.keys[0].name if self.keys and self.keys[0].numbers else None

    def chance(self, answer: Answer) -> float:
        """How often a guess is right: 0 where the answers that can be given are not few."""
        return 1 / len(self.choices(answer)) if self.choices else 0.0


def _not_empty(answer_key: AnswerKey) -> Callable[[Answer], str]:
    return lambda answer: "" if len(answer[answer_key.name]) else f"{answer_key.name} that are not empty"


def _reference_or_question(answer: Answer) -> str:
    described = answer.get("references") or answer.get("questions")
    return "" if described else "a reference text or a question about the picture"


TASKS: dict[str, TaskType] = {
    "choice": TaskType(
        example={"choice": "B", "options": ["cat", "dog"]},
        keys=(key.CHOICE, key.OPTIONS),
        rule="choice_match",
        golds=gold.texts("choice"),
        read=gold.chosen,
        choices=key.letters,
        thought=lambda answer: answer["options"][ord(answer["choice"]) - ord("A")],
    ),
    "yesno": TaskType(
        example={"yesno": False},
        keys=(key.YESNO,),
        rule="yesno_match",
        golds=gold.yes_or_no,
        choices=lambda _: ("yes", "no"),
    ),
    "number": TaskType(
        example={"number": -3.5, "unit": "cm"}, keys=(key.NUMBER,), rule="number_match", golds=gold.numbers
    ),
    "count": TaskType(example={"number": 3}, keys=(key.NUMBER,), rule="number_match", golds=gold.numbers),
    "math": TaskType(
        example={"math": r"\frac{1}{2}"},
        keys=(key.MATH,),
        rule="math_match",
        golds=gold.texts("math"),
        inline=r"\boxed{{{}}}",
    ),
    "text": TaskType(
        example={"text": ["Paris", "paris, france"]}, keys=(key.TEXT,), rule="text_match", golds=gold.texts("text")
    ),
    "ocr": TaskType(example={"text": ["EXIT"]}, keys=(key.TEXT,), rule="anls", golds=gold.texts("text")),
    "chart": TaskType(example={"text": ["12%"]}, keys=(key.TEXT,), rule="relaxed_match", golds=gold.texts("text")),
    "grounding": TaskType(
        example={"boxes": [[0, 0, 100.5, 50]]},
        keys=(key.BOXES,),
        rule="box_iou",
        golds=gold.each_box,
        read=gold.located("grounding", boxes),
        needs=_not_empty(key.BOXES),
        category="object-detection",
    ),
    "detection": TaskType(
        example={"boxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "labels": ["cat", "dog"]},
        keys=(key.BOXES, key.LABELS),
        rule="box_set",
        golds=gold.labelled_boxes,
        read=gold.labelled,
        category="object-detection",
    ),
    "point": TaskType(
        example={"points": [[50, 25]], "boxes": [[40, 20, 60, 30]]},
        keys=(key.POINTS,),
        rule="point_match",
        golds=gold.all_points,
        read=gold.located("point", points),
        needs=_not_empty(key.POINTS),
        category="object-detection",
    ),
    "temporal": TaskType(
        example={"spans": [[0, 0.5], [1, 2.3]]},
        keys=(key.SPANS,),
        rule="span_iou",
        golds=gold.each_span,
        read=gold.located("temporal", spans),
        needs=_not_empty(key.SPANS),
        category="video-text-to-text",
    ),
    "sql": TaskType(
        example={
            "sql": "select count(*) from pets",
            "database": "create table pets (name); insert into pets values ('Rex')",
        },
        keys=(key.SQL, key.DATABASE),
        rule="sql_match",
        golds=gold.texts("sql"),
        category="table-question-answering",
    ),
    "tool": TaskType(
        example={"tools": [{"name": "crop", "parameters": {"box": [0, 0, 9, 9]}}, {"name": "ask", "parameters": {}}]},
        keys=(key.TOOLS,),
        rule="tool_call",
        golds=gold.calls,
        form="<think>{rationale}</think>\n{answer}",
    ),
    "caption": TaskType(
        example={"references": ["a cat"]},
        keys=(key.REFERENCES,),
        golds=gold.texts("references"),
        needs=_reference_or_question,
        category="image-to-text",
    ),
    "open": TaskType(
        example={"references": [], "questions": [{"question": "Who?", "options": ["a", "b"], "choice": "A"}]},
        keys=(key.REFERENCES,),
        golds=gold.texts("references"),
        needs=_reference_or_question,
    ),
    "preference": TaskType(
        example={"preferred": 1, "candidates": ["a", "b"]},
        keys=(key.PREFERRED, key.CANDIDATES),
        read=None,
        category="image-text-to-text",
    ),
    "steps": TaskType(
        example={"steps": ["A dog runs.", " A cat sleeps."], "step_scores": [1.0, 0.2]},
        keys=(key.STEPS, key.STEP_SCORES),
        read=None,
        category="image-text-to-text",
    ),
    "edit": TaskType(
        example={"instruction": "make it blue", "principles": [], "score": 7.5},
        keys=(key.INSTRUCTION,),
        completion=gold.chain,
        category="image-to-image",
    ),
    "text_to_image": TaskType(
        example={"content": [{"what": "7", "colour": "red", "count": 2, "place": "left half"}]},
        keys=(),
        category="text-to-image",
    ),
    "text_to_video": TaskType(
        example={"content": [{"what": "square", "colour": "red", "count": 2, "place": "left half"}]},
        keys=(),
        category="text-to-video",
    ),
}


OTHER = TaskType(example={}, keys=())  # all that is known of a task that is not in the table


def task_type(task: str) -> TaskType:
    """The entry of a task; InputError names the nearest known one."""
    if task not in TASKS:
        raise InputError(f"unknown task {task!r}; {nearest(str(task), TASKS)}")
    return TASKS[task]
