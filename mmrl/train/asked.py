"""What a run asks: whole prompts as the model sees them, and what in them does not fit the rewards or the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from data_engine.schema import Sample
from eval.sample_sets import split_samples
from eval.space_check import doubted_space
from mmrl.core.config import InputError
from mmrl.core.media.item import MediaKind
from mmrl.core.messages import prompt_text
from mmrl.model.encoding import PARTS, chat_text, check_form, kinds_of
from mmrl.model.loading import load_processor, local
from mmrl.tools.form import with_tools
from mmrl.train.config import PREFERRING, TrainConfig, form_of, makes_rollouts, stages_of
from mmrl.train.evaluation import evaluated
from mmrl.train.samples import stage_samples
from rewards.forms import marks_of
from rewards.prompt_form import PromptForm
from rewards.stock_prompts import STOCK

QUESTION = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]


class Asked:
    """The prompts of a run of `config`, made with its model's own processor."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.path = config, local(config.model)
        self.processor = load_processor(self.path)
        check_form(self.processor, form_of(config))
        self.form = with_tools(form_of(config), self.processor, config.rollout)
        stages = {*stages_of(config)}
        self.samples = _by_task(stage_samples(config, "grpo") if stages - {*PREFERRING} else [])
        self.pairs = _by_task(stage_samples(config, "dpo") if "dpo" in stages else [])
        self._check_media()

    def _check_media(self) -> None:
        """Refuse media that the processor does not take, of the training and of the evaluation: else it is found at the
        first batch that has one."""
        strange: list[MediaKind] = [kind for kind in PARTS if kind not in kinds_of(self.processor)]
        learned = {"training": self.samples, "preferences": self.pairs}
        sets = {use: [sample for samples in tasks.values() for sample in samples] for use, tasks in learned.items()}
        if self.config.evaluation is not None:
            sets["evaluation"] = split_samples(evaluated(self.config).data).load()
        for use, samples in sets.items():
            for kind in strange:
                if count := sum(any(item.kind == kind for item in sample.media) for sample in samples):
                    raise InputError(
                        f"{count:,} of the {len(samples):,} samples of the {use} show {kind}s, and {self.config.model} "
                        f"takes none ({type(self.processor).__name__} has no {PARTS[kind]}); build the data without "
                        "them, or choose a model that sees them"
                    )

    def prompts(self) -> dict[str, str]:
        """One whole prompt for each task: that of its first sample; media are placeholders of the chat template."""
        firsts = {task: samples[0] for task, samples in sorted((self.pairs | self.samples).items())}
        return {task: chat_text(self.processor, first.prompt, task, self.form) for task, first in firsts.items()}

    def doubts(self) -> list[str]:
        """Warnings: forms that are rewarded and that no prompt asks for, and a space that the model does not speak."""
        from transformers import AutoConfig

        own = chat_text(self.processor, QUESTION, form=self.form)  # what the chat template says by itself
        model: Any = AutoConfig.from_pretrained(self.path, trust_remote_code=False)
        space = doubted_space(model.model_type, self.config.space, self.samples)
        return [*self._unasked(own), *([space] if space else [])]

    def _unasked(self, own: str) -> Iterable[str]:
        for name, spec in self.config.rewards.items() if makes_rollouts(self.config) else ():
            marks = marks_of(spec.fn, spec.args)
            for task, samples in sorted(self.samples.items()):
                if (
                    marks
                    and (spec.tasks is None or task in spec.tasks)
                    and (lacking := _lacking(marks, samples, self.form, own))
                ):
                    yield (
                        f"rewards.{name} wants {' and '.join(marks)} in answers of the task {task}, and "
                        f"{lacking:,} of {len(samples):,} prompts do not ask for it: a prompt: block can ("
                        f"{', '.join(_asking(marks)) or 'a text of your own'}), or an sft: stage can teach it"
                    )


def _by_task(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    tasks: dict[str, list[Sample]] = {}
    for sample in samples:
        tasks.setdefault(sample.task, []).append(sample)
    return tasks


def _lacking(marks: Sequence[str], samples: Iterable[Sample], form: PromptForm, own: str) -> int:
    """How many samples are asked without naming one of the marks; case does not matter."""
    wanted = [mark.casefold() for mark in marks if mark.casefold() not in own.casefold()]
    if not wanted:
        return 0
    texts = (prompt_text(form.asked(sample.prompt, sample.task)).casefold() for sample in samples)
    return sum(not all(mark in text for mark in wanted) for text in texts)


def _asking(marks: Sequence[str]) -> list[str]:
    """The stock prompts that name all marks."""
    return [name for name, stock in STOCK.items() if all(mark.casefold() in stock.text.casefold() for mark in marks)]
