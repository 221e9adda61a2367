"""`engine: lmms_eval`: the tasks of that harness, with its prompts and scores; our model adapter answers.

Needs the extra `lmms`, and lmms-eval without its requirements, which conflict with those of math-verify:
`pip install '.[lmms]' && pip install --no-deps lmms-eval==0.7.3`.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import Field, PositiveInt

from data_engine.schema import Sample, with_id
from eval.generation import Draw, Generator, Sampling
from mmrl.core.config import Config, InputError, nearest
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe

Answerer = Callable[[Sampling], Generator]
READ = {"max_new_tokens", "temperature", "top_p", "do_sample", "until"}  # settings of a task that are followed
HARMLESS = {"num_beams": 1, "top_k": None}  # settings that are accepted with this value


class LmmsTasks(Config):
    """Tasks of lmms-eval by name, the first `limit` items of each. `include` is a directory with your own tasks."""

    tasks: list[str] = Field(min_length=1)
    limit: PositiveInt | None = None
    include: Path | None = None


def run_tasks(
    chosen: LmmsTasks, answerer: Answerer, *, sampling: Sampling, batch_size: int, out: Path
) -> dict[str, dict[str, Any]]:
    """The results by task, as lmms-eval gives them. It writes its results and samples files below `out`.

    `answerer` makes a generator for the sampling settings of a task, for which `sampling` holds the defaults.
    """
    check_installed()
    from lmms_eval.evaluator import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lmms_eval.loggers.evaluation_tracker import EvaluationTracker  # pyright: ignore[reportMissingImports]
    from lmms_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    manager = TaskManager("ERROR", include_path=str(chosen.include) if chosen.include else None, model_name="mmrl")
    for task in chosen.tasks:
        if task not in manager.all_tasks:
            close = nearest(task, manager.all_tasks).partition(" (known")[0]  # of hundreds
            raise InputError(f"lmms-eval has no task {task!r}; {close}")
    tracker = EvaluationTracker(output_path=str(out))
    results = simple_evaluate(
        model=_adapter(answerer, sampling, batch_size),
        tasks=list(chosen.tasks),
        limit=chosen.limit,
        task_manager=manager,
        evaluation_tracker=tracker,
        verbosity="ERROR",
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples, datetime_str=results["date"])
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    if not list(out.rglob("*_results.json")):
        raise InputError(f"lmms-eval could not write its results to {out}; is there room?")  # it only warns
    return results["results"]


def check_installed() -> None:
    """InputError unless lmms-eval can be imported."""
    if find_spec("lmms_eval") is None:
        raise InputError(
            "engine lmms_eval needs lmms-eval, which is not installed: pip install 'mmrl-stack[lmms]' && "
            "pip install --no-deps lmms-eval==0.7.3"
        )


def _adapter(answerer: Answerer, sampling: Sampling, batch_size: int) -> Any:
    """Our generators as a chat model of lmms-eval."""
    from lmms_eval.api.instance import GenerationResult, TokenCounts  # pyright: ignore[reportMissingImports]
    from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]

    class Adapter(lmms):
        is_simple = False

        def generate_until(self, requests: Any) -> list[Any]:
            answers: dict[int, Any] = {}
            numbers = draw_numbers(request.args[3:] for request in requests)
            alike: dict[Sampling, list[int]] = defaultdict(list)
            for at, request in enumerate(requests):
                alike[task_sampling(request.args[2], sampling)].append(at)
            for settings, places in alike.items():
                generator = answerer(settings)
                places.sort(key=lambda at: -len(requests[at].args[0]))
                for start in range(0, len(places), batch_size):
                    batch = places[start : start + batch_size]
                    draws = [self._draw(requests[at].args, numbers[at]) for at in batch]
                    for at, answer in zip(batch, generator(draws), strict=True):
                        text = until(answer.response, requests[at].args[2].get("until"))
                        answers[at] = GenerationResult(text, TokenCounts(output_tokens=answer.tokens))
            return [answers[at] for at in range(len(requests))]

        def _draw(self, args: Any, number: int) -> Draw:
            _, messages, _, place, task, split = args
            return Draw(sample_of(messages(self.task_dict[task][split][place]), f"lmms_eval/{task}"), number)

        def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
            raise InputError("engine lmms_eval answers in words; tasks by likelihood are not supported")

        def generate_until_multi_round(self, requests: Any) -> list[str]:
            raise InputError("engine lmms_eval answers once; tasks of several rounds are not supported")

    return Adapter()


def draw_numbers(items: Iterable[Hashable]) -> list[int]:
    """How many of the items before each are the same.

    >>> draw_numbers("abca")
    [0, 0, 0, 1]
    """
    seen, numbers = Counter[Hashable](), list[int]()
    for item in items:
        numbers.append(seen[item])
        seen[item] += 1
    return numbers


def task_sampling(settings: Mapping[str, Any], base: Sampling) -> Sampling:
    """`base` with the generation settings of a task; InputError for a setting that this engine does not support.

    >>> task_sampling({"max_new_tokens": 16, "temperature": 0, "num_beams": 1}, Sampling()).max_new_tokens
    16
    """
    for name, value in settings.items():
        if name not in READ and not (name in HARMLESS and value in (None, HARMLESS[name])):
            raise InputError(f"the task asks for {name}={value!r}, which this engine does not do")
    temperature = settings.get("temperature") or 0.0
    sampled = settings.get("do_sample", temperature > 0) and temperature > 0
    change: dict[str, Any] = {"max_new_tokens": settings.get("max_new_tokens") or base.max_new_tokens}
    if sampled:
        change |= {"do_sample": True, "temperature": temperature, "top_p": settings.get("top_p") or 1.0}
    return Sampling(**{**change, "seed": base.seed})


def until(response: str, stops: str | Sequence[str] | None) -> str:
    """`response` up to the first of the stop texts.

    >>> until("a cat\\n\\nand a dog", ["\\n\\n", "dog"])
    'a cat'
    """
    for stop in [stops] if isinstance(stops, str) else stops or ():
        response = response.partition(stop)[0] if stop else response
    return response


def sample_of(messages: Sequence[Mapping[str, Any]], source: str) -> Sample:
    """A chat of lmms-eval as a sample; its images and videos become the media, in order."""
    media: list[Media] = []
    prompt = []
    for message in messages:
        content = []
        for part in message["content"]:
            if part["type"] == "text":
                content.append({"type": "text", "text": part["text"]})
            elif part["type"] in ("image", "video"):
                content.append({"type": part["type"]})
                media.append(_medium(part))
            else:
                raise InputError(f"{source}: a part of type {part['type']!r}; expected text, image or video")
        prompt.append({"role": message["role"], "content": content})
    return with_id(Sample("", source, "open", prompt, {}, tuple(media)))


def _medium(part: Mapping[str, Any]) -> Media:
    source, kind = part["url"], part["type"]
    if isinstance(source, Image.Image):
        file = io.BytesIO()
        source.convert("RGB").save(file, "PNG")
        return probe(Media(kind, bytes=file.getvalue()), kind)
    start, end = part.get("start_time"), part.get("end_time")
    if isinstance(source, Mapping):
        start, end = source.get("video_start", start), source.get("video_end", end)
        source = source.get("url") or source.get("path")
    if not isinstance(source, str):
        raise InputError(f"a {kind} given as {type(source).__name__}; expected a picture or a path")
    return probe(Media(kind, path=str(Path(source).resolve()), start=start, end=end), kind)
