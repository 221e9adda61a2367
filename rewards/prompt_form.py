"""The `prompt:` block: what is laid around the question of a sample, in a dataset, in training and in evaluation alike.

The question itself stays as it is in the dataset: rewards, judges, difficulty tables and pages see the question, and
the model sees the whole prompt. The block is part of the protocol of an evaluation and of the config of a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from mmrl.core.config import Config, InputError, nearest
from mmrl.core.messages import parts_of
from rewards.stock_prompts import STOCK
from rewards.tasks.table import TASKS

QUESTION = "{question}"
OURS = (  # arguments of `apply_chat_template` that are no variables of a template
    *("conversation", "chat_template", "tools", "documents", "tokenize", "add_generation_prompt", "messages"),
    *("continue_final_message", "return_dict", "return_tensors", "return_assistant_tokens_mask", "processor_kwargs"),
    *("padding", "truncation", "max_length", "tokenizer_kwargs", "load_audio_from_video"),
)
_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


def text_of(given: Any) -> Any:
    """A text, or the text of a stock prompt; of a list, all of them with a blank between.

    >>> text_of(["Count well.", "number_only"])
    'Count well. Answer with a number alone, in digits.'
    """
    if isinstance(given, list | tuple) and given:
        texts = list(map(text_of, given))
        return " ".join(texts) if all(isinstance(text, str) for text in texts) else given
    if isinstance(given, str) and given in STOCK:
        return STOCK[given].text
    if isinstance(given, str) and _NAME.fullmatch(given):
        raise ValueError(
            f"no stock prompt {given!r}; {nearest(given, STOCK)}; a text of your own has a blank or a mark"
        )
    if isinstance(given, str) and not given.strip():
        raise ValueError("the text is blank; leave the key out")
    return given


Text = Annotated[str, BeforeValidator(text_of)]


class TaskPrompt(Config):
    """What is asked beside the question of a task: a `suffix` after it, on a line of its own, or a `template` that has
    `{question}` once. A text is written out, or is the name of a stock prompt, or a list of both."""

    suffix: Text | None = None
    template: Text | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.suffix is None) == (self.template is None):
            raise ValueError("give a suffix or a template")
        if self.template is not None and self.template.count(QUESTION) != 1:
            raise ValueError(f"a template has {QUESTION} once, got {self.template!r:.200}")
        return self

    def around(self) -> tuple[str, str]:
        """The text before the question, and the text after it."""
        before, _, after = (self.template or f"{QUESTION}\n{self.suffix}").partition(QUESTION)
        return before, after


class PromptForm(Config):
    """What is asked beside the question: a `system` message, which replaces the sample's own, something for each of
    `tasks`, and variables of the chat template, such as `enable_thinking: false`."""

    system: Text | None = None
    tasks: dict[str, TaskPrompt] = Field(default_factory=dict)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _variables(self) -> Self:
        for name in self.chat_template_kwargs:
            if name in OURS:
                raise ValueError(f"chat_template_kwargs: {name} is no variable of a chat template; mmrl sets it")
        return self

    def asked(self, prompt: Sequence[Mapping[str, Any]], task: str) -> list[dict[str, Any]]:
        """The messages of a sample of this task with all that is laid around its question.

        >>> form = PromptForm(system="Be short.", tasks={"yesno": {"suffix": "yes_or_no"}})
        >>> [part["text"] for message in form.asked([{"role": "user", "content": "Red?"}], "yesno")
        ...     for part in message["content"]]
        ['Be short.', 'Red?\\nAnswer yes or no.']
        """
        messages = [dict(message) for message in prompt if self.system is None or message["role"] != "system"]
        places = [place for place, message in enumerate(messages) if message["role"] == "user"]
        if task in self.tasks and places:
            last = messages[places[-1]]
            last["content"] = _laid_around(parts_of(last["content"]), *self.tasks[task].around())
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": self.system}]})
        return messages

    def protocol(self) -> dict[str, Any]:
        """What differs from asking the question alone; empty if nothing does."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def check_tasks(self, tasks: Iterable[str]) -> None:
        """InputError for a task that neither the table of tasks nor the data know."""
        known = {*TASKS, *tasks}
        for task in self.tasks:
            if task not in known:
                raise InputError(f"prompt.tasks: unknown task {task!r}; {nearest(task, known)}")

    def texts(self) -> list[str]:
        """All texts that it lays around questions."""
        around = [text for task in self.tasks.values() for text in task.around()]
        return [text.strip() for text in (self.system or "", *around) if text.strip()]


PLAIN = PromptForm()  # the question alone


def _laid_around(parts: Sequence[Mapping[str, Any]], before: str, after: str) -> list[dict[str, Any]]:
    """The parts of a message with a text before its first text and one after its last; media keep their places."""
    laid = [dict(part) for part in parts]
    texts = [place for place, part in enumerate(laid) if part["type"] == "text"]
    if not texts:
        return [*laid, {"type": "text", "text": (before + after).strip()}]
    first, last = texts[0], texts[-1]
    laid[first]["text"] = before + laid[first]["text"]
    if last == len(laid) - 1:
        laid[last]["text"] += after
    elif after:
        laid.append({"type": "text", "text": after})
    return laid
