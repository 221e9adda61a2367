"""Evaluation while a model trains: what `mmrl eval run` does, with the weights of the step, into `OUT/eval/step-00050`.

When it happens and which checkpoint is kept are transformers' own settings, in the `sft:` and `grpo:` blocks:
`eval_strategy`, `eval_steps`, `metric_for_best_model`, `load_best_model_at_end`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model

from data_engine.schema import Sample
from eval.answer.backends import guided
from eval.answer.local import LocalGenerator, evaluating
from eval.config import EvalConfig
from eval.distributed import Processes
from eval.generation import Draw, Generator
from eval.records import ALL, RUN, TOTAL, read_run
from eval.report import report, reported
from eval.run import asking, evaluate, prepare, run_info
from eval.sample_sets import SampleSet, split_samples
from eval.score import evaluation_suite
from mmrl.tools.form import with_tools
from mmrl.trainers.checkpoints import WholeCheckpoints
from mmrl.trainers.sharding import gathered_by_fsdp
from rewards.prompt_form import PLAIN

REWARD = "reward"  # the metric that is the mean of the weighted sum over all records


class StepEvaluation:
    """The evaluation that `config` describes, made again at every step that asks for one; its samples are read once."""

    def __init__(self, config: EvalConfig, out: Path) -> None:
        self.out = out
        self.split: SampleSet = split_samples(config.data)
        self.config = asking(config, self.split)
        self.samples: list[Sample] = self.split.load()
        self.suite = evaluation_suite(self.config.rewards, self.config.judges)
        self.suite.check_tasks(sample.task for sample in self.samples)

    @property
    def metrics(self) -> list[str]:
        """The names of possible metrics: `reward`, and `TASK/REWARD` for the tasks and for `all`."""
        scored = self.suite.tasks_scored(sample.task for sample in self.samples)
        pairs = [f"{task}/{name}" for task, names in sorted(scored.items()) for name in (*names, TOTAL)]
        return [REWARD, *pairs, *(f"{ALL}/{name}" for name in self.suite.names)]

    def __call__(self, model: Any, processor: Any, step: int) -> dict[str, float]:
        """The metrics of `model`."""

        def answering(config: EvalConfig) -> Generator:
            form = with_tools(config.prompt or PLAIN, processor, config.rollout)
            plain = LocalGenerator(model, processor, budget=config.vision, sampling=config.sampling, form=form)
            return guided(plain, config)

        return self.measured(answering, weights_fingerprint(model), step)

    def measured(self, answering: Callable[[EvalConfig], Generator], fingerprint: str, step: int) -> dict[str, float]:
        """The metrics of the weights of that fingerprint, with which `answering` makes a generator. Every process
        evaluates a share; records of an interrupted step are reused.

        A metric that the report withholds is NaN.
        """
        processes, out = Processes(), self.out / f"step-{step:05d}"
        sampling = self.config.sampling
        draws = [Draw(sample, number) for sample in self.samples for number in range(sampling.samples)]
        info = run_info(self.config, self.split, self.suite, planned=len(draws), fingerprint=fingerprint)
        info = replace(info, model=f"{info.model}, trained for {step} steps")
        if processes.main:
            if (out / RUN).is_file() and read_run(out).protocol != info.protocol:
                shutil.rmtree(out)  # of other weights: the training was started again
            info = prepare(out, info, self.suite)
        processes.wait()
        generator = answering(self.config.model_copy(update={"out": str(out)}))
        evaluate(generator, draws, self.split, self.suite, info, out, batch_size=self.config.batch_size)
        content = report(out) if processes.main else reported(out)
        means = {f"{row['task']}/{row['reward']}": row["mean"] for row in content["rows"]}
        means = {REWARD: means.pop(f"{ALL}/{TOTAL}"), **means}
        return {f"eval_{name}": float("nan") if mean is None else mean for name, mean in means.items()}


class RecordedEvaluations(WholeCheckpoints):
    """A mixin for transformers trainers: put it before the trainer's class among the bases, and set `evaluation`."""

    evaluation: StepEvaluation | None = None

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as `mmrl eval run` does; without an `evaluation`, as the trainer's class does."""
        if self.evaluation is None:
            return super().evaluate(*args, **kwargs)
        with evaluating(self.model):  # TRL files what it logs meanwhile under evaluation
            metrics = self.measured(self.evaluation)
            self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measured(self, evaluation: StepEvaluation) -> dict[str, float]:
        """The metrics of the model as it is."""
        from trl.models.utils import unwrap_model_for_generation

        recompute: Any = self.args.gradient_checkpointing_kwargs
        wrapped: Any = self.model_wrapped
        model: Any
        with (
            unwrap_model_for_generation(wrapped, self.accelerator, gradient_checkpointing_kwargs=recompute) as model,
            gathered_by_fsdp(model),
        ):
            plain = model.get_base_model() if is_peft_model(model) else model
            return evaluation(plain, self.processing_class, self.state.global_step)

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        """Save a new best checkpoint, whether or not a save is due."""
        best = super()._determine_best_metric(metrics, trial)
        self.control.should_save |= best
        return best


def evaluates(args: Any) -> bool:
    """Whether a stage with these arguments asks for evaluations."""
    return args.eval_strategy != "no" or args.eval_on_start


def weights_fingerprint(model: Any) -> str:
    """The hash of a model's weights: equal weights, equal fingerprint."""
    digest = sha256()
    for name, value in sorted(model.named_parameters()):
        digest.update(name.encode())
        value = value.detach().cpu().clone()  # NumPy would pin the storage, which FSDP2 empties afterwards
        digest.update(value.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
