"""How an operator is written, and what can happen to a sample.

An operator is a plain function under one of three decorators. Its options are keywords. The simplest form is a filter:

    @drops
    def min_pixels(sample: Sample, *, pixels: int = 784) -> str | None:
        too_small = any(media.width * media.height < pixels for media in sample.media)
        return "too_small" if too_small else None

- `@drops`: `(sample, **options) -> str | None`, the reason to leave the sample out, or None to keep it;
- `@each`: `(sample, **options) -> Sample | Dropped | Quarantined`; a changed sample gets a new id;
- `@stream`: `(samples, **options) -> Iterator[Sample | Dropped | Quarantined]`, for decisions that need many samples.

`data_engine.ops.filters.drops_by` makes a filter of a measure. The first two kinds may run in any process; a stream
runs in the main process, in order. An operator with an option `seed` gets the recipe's seed. `@traits` declares what a
recipe must know of it.
"""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, NonNegativeFloat, ValidationInfo

from data_engine.schema import Sample
from mmrl.core.config import RunError
from mmrl.core.media.item import MEDIA_FIELDS, Media
from rewards.tasks.table import task_type

Kind = Literal["drops", "each", "stream"]
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def _some_weight(weights: dict[str, float]) -> dict[str, float]:
    if not any(weights.values()):
        raise ValueError("one of the weights must be above 0")
    return weights


def _as_written(weights: Any) -> Any:
    """The weights with names as text: YAML reads `yes` and `no` as booleans and 3 as a number."""
    if not isinstance(weights, dict):
        return weights
    words = {True: "yes", False: "no"}
    return {words[name] if isinstance(name, bool) else str(name): weight for name, weight in weights.items()}


Weights = Annotated[  # name -> weight; they need not sum to 1
    dict[str, NonNegativeFloat], BeforeValidator(_as_written), AfterValidator(_some_weight)
]


def _there(path: Path, about: ValidationInfo) -> Path:
    if not (place := about.data.get("root", Path()) / path).exists():
        raise ValueError(f"there is nothing at {place}; relative paths start at the recipe's root")
    return path


Existing = Annotated[Path, AfterValidator(_there)]  # a file of an operator that has an option `root`, too


def _known_task(name: str) -> str:
    task_type(name)
    return name


Task = Annotated[str, AfterValidator(_known_task)]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sound sample that an operator left out. `reason` is the code under which it is counted, `like` the id of the
    sample that it repeats."""

    sample: Sample
    reason: str
    like: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A broken input. `reason` is the code that is counted; `why` names the sample and says what would be right.

    `where` is its place in the source (`questions.jsonl:12`), `row` the raw row or the sample, to look at.
    """

    reason: str
    why: str
    source: str = ""
    where: str = ""
    row: Any = None


Outcome = Sample | Dropped | Quarantined


def drops(function: FunctionT) -> FunctionT:
    """Mark a function that returns the reason to leave a sample out, or None."""
    return _marked(function, "drops")


def each(function: FunctionT) -> FunctionT:
    """Mark a function that turns one sample into one outcome."""
    return _marked(function, "each")


def stream(function: FunctionT) -> FunctionT:
    """Mark a function over all samples; it yields one outcome for each sample it takes."""
    return _marked(function, "stream")


@dataclass(frozen=True, slots=True)
class Traits:
    """Properties of an operator by which a recipe refuses an order of operators that makes no sense."""

    counts: bool = False  # it counts each sample once: refused after one that repeats samples
    repeats: str = ""  # its option that says how many times a sample may be shown
    orders: bool = False  # the order of its samples is its result: nothing may shuffle them afterwards


def traits(*, counts: bool = False, repeats: str = "", orders: bool = False) -> Callable[[FunctionT], FunctionT]:
    """Declare the traits of an operator; above the other decorators."""

    def marked(function: FunctionT) -> FunctionT:
        vars(function)["operator_traits"] = Traits(counts, repeats, orders)
        return function

    return marked


def traits_of(function: Callable[..., Any]) -> Traits:
    """The traits of an operator: none, if it does not declare any."""
    return getattr(function, "operator_traits", Traits())


def only_on(*engines: str) -> Callable[[FunctionT], FunctionT]:
    """Mark an operator that only some engines can run, because it holds something that cannot leave this machine."""

    def marked(function: FunctionT) -> FunctionT:
        vars(function)["operator_engines"] = engines
        return function

    return marked


def engines_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The engines that can run an operator; all, unless it is marked by `only_on`."""
    return getattr(function, "operator_engines", ("local", "ray"))


@contextlib.contextmanager
def without_exit(name: str) -> Iterator[None]:
    """Turns the `SystemExit` of somebody's function, which would end the run without a word, into a RunError."""
    try:
        yield
    except SystemExit as error:
        raise RunError(f"{name} called sys.exit({error.code!r}); let it raise an error that says why") from error


def kind_of(function: Callable[..., Any]) -> Kind | None:
    """How an operator is called; None if the function has none of the three decorators."""
    return getattr(function, "operator_kind", None)


def quarantine(sample: Sample, reason: str, why: str) -> Quarantined:
    """The quarantine entry of a sample; its media are described without their bytes."""
    media = [{key: value for key, value in asdict(item).items() if key != "bytes"} for item in sample.media]
    asked = {"task": sample.task, "prompt": sample.prompt, "answer": sample.answer}
    row = {**asked, "media": media, "meta": dict(sample.meta)}
    return Quarantined(reason, f"{describe(sample)}: {why}", sample.source, str(sample.meta.get("where", "")), row)


def describe(sample: Sample) -> str:
    """The sample's place in its source, or else its id or its prompt."""
    name = sample.meta.get("where") or sample.id or f"{sample.prompt!r:.200}"
    return f"{sample.source} sample {name}"


class Spool:
    """Samples on disk, for operators that must see all of them before they decide on the first.

    >>> spool = Spool()
    >>> spool.add(Sample("a", "s", "yesno", [], {"yesno": True}))
    >>> [sample.id for sample in spool]
    ['a']
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the spool: no block could hold it
        self._places: list[int] = []

    def add(self, sample: Sample) -> None:
        """Append a sample."""
        self._places.append(self._file.seek(0, 2))
        pickle.dump(_values(sample), self._file, protocol=pickle.HIGHEST_PROTOCOL)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Sample]:
        return self.read(range(len(self)))

    def read(self, order: Iterable[int]) -> Iterator[Sample]:
        """The samples at the given places, in that order."""
        for index in order:
            self._file.seek(self._places[index])
            name, source, task, prompt, answer, media, meta = pickle.load(self._file)
            yield Sample(name, source, task, prompt, answer, tuple(Media(*item) for item in media), meta)


def _values(sample: Sample) -> tuple[Any, ...]:
    """The sample as plain values, which pickle several times as fast as dataclasses."""
    media = [tuple(getattr(item, name) for name in MEDIA_FIELDS) for item in sample.media]
    return sample.id, sample.source, sample.task, sample.prompt, sample.answer, media, dict(sample.meta)


def _marked(function: FunctionT, kind: Kind) -> FunctionT:
    vars(function)["operator_kind"] = kind
    return function
