"""Chooses the generator: a checkpoint in this process, a server, a replay, or a checkpoint driven by lmms-eval."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_engine.schema import Sample
from eval.answer import replay
from eval.answer.answer_cache import CachedGenerator
from eval.answer.given_edits import GivenEdits
from eval.answer.lmms_eval import LmmsTasks, run_tasks
from eval.answer.server import ServerGenerator, check_videos
from eval.config import EvalConfig
from eval.decode.config import LatentReasoning, NoiseSearch
from eval.distributed import Processes, state
from eval.generation import Draw, Generator, Sampling
from eval.records import RunInfo
from eval.score import evaluation_suite
from mmrl.core.config import InputError
from mmrl.core.locks import alone
from mmrl.engine.settings import VllmSettings
from rewards.forms import check_sees_pictures
from rewards.gradients import check_gradients
from rewards.prompt_form import PLAIN

if TYPE_CHECKING:
    from eval.answer.local import LocalGenerator

logger = logging.getLogger(__name__)


def fingerprint_of(config: EvalConfig) -> str:
    """The identity of the model of `config`: a hash of its files, or its name where there is nothing else."""
    if config.engine in ("openai", "given"):
        return config.model  # nothing more is known of a served model; the edits of `given` are among the media
    if config.engine == "replay":
        return replay.fingerprint(Path(config.model))
    from mmrl.model.loading import check_architecture, fingerprint, local

    model = local(config.model)
    if config.engine == "flow":
        from mmrl.model.flow.loading import check_editor

        check_editor(model)
    else:
        check_architecture(model)
    return fingerprint(model)


class Loaded:
    """The checkpoint of a run, read and hashed when the first of its parts needs it."""

    def __init__(self) -> None:
        self._hashes: dict[str, str] = {}
        self._models: dict[str, tuple[Any, Any]] = {}
        self._editor: Any = None

    def fingerprint(self, config: EvalConfig) -> str:
        """`fingerprint_of` the config's model."""
        if config.model not in self._hashes:
            self._hashes[config.model] = fingerprint_of(config)
        return self._hashes[config.model]

    def model(self, config: EvalConfig) -> tuple[Any, Any]:
        """(model, processor) on the device of this process."""
        from mmrl.model.loading import load_checkpoint, local

        if config.model not in self._models:
            model, processor = load_checkpoint(local(config.model))
            self._models[config.model] = model.to(state().device).eval(), processor
        return self._models[config.model]

    def editor(self, config: EvalConfig) -> Any:
        """The pipeline of the config as a policy, on the device of this process."""
        from mmrl.model.flow.loading import load_editor
        from mmrl.model.loading import local

        if self._editor is None:
            made = config.flow.model_dump(include={"guidance", "side", "frames"})
            self._editor = load_editor(local(config.model), dtype=config.flow.dtype, **made)
            self._editor.transformer.requires_grad_(False)
            self._editor.pipeline.to(state().device)
        return self._editor


def check_pictures(config: EvalConfig, samples: Sequence[Sample]) -> None:
    """Refuse samples and rewards that are not of pictures that a policy makes, before a model is loaded."""
    from mmrl.model.flow.pictures import VIDEO, check_asked

    check_asked(samples)
    if config.decode is not None and any(sample.task == VIDEO for sample in samples):
        raise InputError(f"decode: searches for pictures; the data have {VIDEO}")
    check_sees_pictures(config.rewards)


def check_guides(config: EvalConfig, samples: Sequence[Sample]) -> None:
    """Refuse a `decode:` block whose rewards do not score every task, before a model is loaded."""
    spec: Any = config.decode
    if getattr(spec, "rewards", None):
        try:
            evaluation_suite(spec.rewards, spec.judges).check_tasks(sample.task for sample in samples)
        except InputError as error:
            raise InputError(f"decode.rewards: {error}") from None
        if config.engine == "flow":
            check_sees_pictures(spec.rewards, where="decode.rewards")
        if isinstance(spec, NoiseSearch):
            others = "best_of_n, dts or dts_star"
            check_gradients(spec.rewards, where="decode.rewards", follower="reno", others=others)


def generator_of(
    config: EvalConfig, samples: Sequence[Sample], draws: Sequence[Draw], info: RunInfo, loaded: Loaded | None = None
) -> Generator:
    """The generator of `config`."""
    if config.engine == "given":
        return GivenEdits()
    if config.engine == "flow":
        return picture_generator(config, (loaded or Loaded()).editor(config), samples)
    if config.engine == "replay":
        answers = replay.ReplayGenerator(Path(config.model))
        answers.check(draws)
        return answers
    generator: Generator
    if config.engine == "vllm":
        generator = vllm_generator(config, samples)
    elif config.server:
        check_videos(samples, config.server, blind=config.blind)
        generator = ServerGenerator(config.server, config.model, **_asking(config))
    else:
        generator = guided(local_generator(config, samples, loaded), config)
    return CachedGenerator(generator, config.cache, info.protocol) if config.cache else generator


def picture_generator(config: EvalConfig, policy: Any, samples: Sequence[Sample]) -> Generator:
    """A policy that makes pictures of `samples` as `config` says."""
    from eval.answer.pictures import PictureGenerator

    policy.check_tasks(sample.task for sample in samples)
    guided = None
    if config.decode is not None:
        from eval.decode.pictures import GuidedPictures

        guided = GuidedPictures(config.decode, level=config.flow.noise, batch=config.batch_size)
    films = config.flow.films
    filmed = {samples[place * len(samples) // films].id for place in range(films)}  # mmrl view shows these and more
    out, seed = Path(config.out), config.sampling.seed
    return PictureGenerator(policy, config.flow, out, seed=seed, guided=guided, filmed=filmed)


def local_generator(config: EvalConfig, samples: Sequence[Sample], loaded: Loaded | None = None) -> LocalGenerator:
    """The checkpoint of `config` in this process; the arithmetic of its processor is checked on `samples`."""
    from eval.answer.local import LocalGenerator

    model, processor = (loaded or Loaded()).model(config)
    _check_processor(config, samples, processor, model)
    return LocalGenerator(model, processor, **_asking(config, processor))


def vllm_generator(config: EvalConfig, samples: Sequence[Sample]) -> Generator:
    """The checkpoint of `config` answered by vLLM; the arithmetic of its processor is checked on `samples`."""
    from eval.answer.engine import VllmGenerator, engine_for, plain_generator
    from mmrl.model.loading import local

    if Processes().count > 1:
        raise InputError("engine vllm answers one process; start it without accelerate or torchrun")
    checkpoint = local(config.model)
    plain = plain_generator(checkpoint, **_asking(config))
    _check_processor(config, samples, plain.processor, plain.model)
    engine = engine_for(plain, checkpoint, config.vllm or VllmSettings(), Path(config.out) / "engine.log")
    return VllmGenerator(plain, engine)


def _check_processor(config: EvalConfig, samples: Sequence[Sample], processor: Any, model: Any) -> None:
    """Put the vision budget into the processor, and refuse what it would do otherwise than `config` says."""
    from eval.answer.local import check_frames, probe_sizes
    from eval.space_check import doubted_space
    from mmrl.core.vision import apply_budget, check_budget
    from mmrl.model.encoding import check_form
    from mmrl.model.inputs import check_inputs

    if not config.blind:
        check_inputs(model, processor, [[media.kind for media in sample.media] for sample in samples])
        check_frames(model, samples, config.vision, processor)
    apply_budget(processor, config.vision)
    check_budget(processor, config.vision, probe_sizes(samples, config.vision, processor))
    check_form(processor, config.prompt or PLAIN)
    if doubt := doubted_space(model.config.model_type, config.space, {sample.task for sample in samples}):
        logger.warning(doubt)


def _asking(config: EvalConfig, processor: Any = None) -> dict[str, Any]:
    """How the model of `config` is asked, as keywords of a generator; `processor` is needed where it has tools."""
    form = config.prompt or PLAIN
    if config.rollout.tools:
        from mmrl.tools.form import with_tools

        form = with_tools(form, processor, config.rollout)
    return {"budget": config.vision, "sampling": config.sampling, "blind": config.blind, "form": form}


def guided(plain: LocalGenerator, config: EvalConfig) -> Generator:
    """`plain`, or the generator of the `rollout:` or `decode:` block around it."""
    if config.rollout.tools:
        from eval.answer.tools import ToolGenerator

        return ToolGenerator(plain, config.rollout, config.space, Path(config.out))
    if config.decode is None:
        return plain
    if isinstance(config.decode, LatentReasoning):
        from eval.answer.latent import LatentGenerator
        from mmrl.model.latent import load_head
        from mmrl.model.loading import fingerprint, local

        return LatentGenerator(plain, load_head(config.decode.head, fingerprint(local(config.model))))
    from eval.decode import GuidedGenerator  # loads torch

    return GuidedGenerator(plain, config.decode, config.space, size=config.batch_size)


def run_lmms(config: EvalConfig) -> dict[str, dict[str, Any]]:
    """The results of the lmms-eval tasks of `config`, by task. Answers are kept in `cache`, by default in `out`, so an
    interrupted run is resumed."""
    assert config.lmms
    if Processes().count > 1:
        raise InputError("engine lmms_eval runs in one process; start it without accelerate or torchrun")
    with alone(Path(config.out)):
        return _run_lmms(config, config.lmms, Path(config.out))


def _run_lmms(config: EvalConfig, tasks: LmmsTasks, out: Path) -> dict[str, dict[str, Any]]:
    fingerprint = fingerprint_of(config)
    plain = local_generator(config, [])
    fixed = {"fingerprint": fingerprint, "vision": config.vision.model_dump(mode="json")}
    if config.prompt:
        fixed["prompt"] = config.prompt.protocol()
    if config.decode:
        fixed["decode"] = config.decode.protocol()

    def answerer(sampling: Sampling) -> Generator:
        generator = guided(plain.under(sampling), config)
        return CachedGenerator(generator, config.cache or out / "answers.sqlite", {**fixed, **sampling.protocol()})

    return run_tasks(tasks, answerer, sampling=config.sampling, batch_size=config.batch_size, out=out)
