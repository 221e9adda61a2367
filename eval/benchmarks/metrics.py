"""Numbers over the records of a benchmark. A mean over nothing is None; missing verdicts are left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from statistics import fmean

from eval.benchmarks.base import Metrics
from eval.records import Record

Parse = Callable[[str], bool | None]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None without any.

    >>> mean([1.0, None, 0.0]), mean([])
    (0.5, None)
    """
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def micro(records: Iterable[Record], reward: str = "accuracy") -> float | None:
    """The mean score over records."""
    return mean(record.scores.get(reward) for record in records)


def groups(records: Iterable[Record], key: str) -> dict[str, list[Record]]:
    """Records by a key of their meta, sorted by name; records without the key are left out."""
    grouped: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        value = record.meta.get(key)
        for name in value if isinstance(value, list) else [value] if value is not None else []:
            grouped[str(name)].append(record)
    return dict(sorted(grouped.items()))


def together(records: Iterable[Record], keys: Sequence[str]) -> list[list[Record]]:
    """Groups of records that agree in all these keys of their meta."""
    grouped: dict[Hashable, list[Record]] = defaultdict(list)
    for record in records:
        grouped[tuple(str(record.meta.get(key)) for key in keys)].append(record)
    return list(grouped.values())


def scored_by(*keys: str, macro: str | None = None) -> Callable[[Sequence[Record]], Metrics]:
    """Metrics: the mean of every scorer, that of `accuracy` by each key, and the mean over the groups of `macro`.

    Also `unparsed`: the share of answers that could not be parsed.
    """

    def metrics(records: Sequence[Record]) -> Metrics:
        names = dict.fromkeys(name for record in records for name in record.scores)
        numbers: Metrics = {name: micro(records, name) for name in names}
        for key in keys:
            numbers |= {f"{key}.{name}": micro(group) for name, group in groups(records, key).items()}
        if macro:
            numbers["macro"] = mean(micro(group) for group in groups(records, macro).values())
        return {**numbers, "unparsed": unparsed_share(records)}

    return metrics


def unparsed_share(records: Sequence[Record], reward: str = "accuracy") -> float | None:
    """The share of records whose answers a scorer could not parse."""
    return mean(float(record.kinds.get(reward) == "unparsed") for record in records)


def ratio(part: float, whole: int) -> float | None:
    """`part / whole`, None if the whole is 0."""
    return part / whole if whole else None


def mean_words(records: Iterable[Record]) -> float | None:
    """The mean length of the answers in words."""
    return mean(float(len((record.answer_text or "").split())) for record in records)


def all_right(records: Iterable[Record], reward: str = "accuracy") -> float | None:
    """1 if every record is right, None if a verdict is missing."""
    scores = [record.scores.get(reward) for record in records]
    return None if None in scores else float(all(score == 1.0 for score in scores))


def binary(pairs: Sequence[tuple[bool, bool | None]], *, positive: bool, smooth: float = 0.0) -> Metrics:
    """Accuracy, precision, recall and F1 of (gold, prediction) pairs; a prediction of None is wrong and not a positive.

    `smooth` is added to denominators; without it, recall and F1 are None if no gold is positive. The yes ratio is the
    share of predictions that are yes.

    >>> binary([(True, True), (True, None), (False, True)], positive=True)["recall"]
    0.5
    """
    if not pairs:
        return dict.fromkeys(("accuracy", "precision", "recall", "f1", "yes_ratio", "unparsed"))
    hits = sum(gold == predicted == positive for gold, predicted in pairs)
    claimed = sum(predicted == positive for _, predicted in pairs)
    there = sum(gold == positive for gold, _ in pairs)
    if not there and not smooth:
        precision = 0.0 if claimed else None
        recall = f1 = None
    else:
        precision = hits / (claimed + smooth) if claimed + smooth else 0.0
        recall = hits / (there + smooth)
        f1 = 2 * precision * recall / (precision + recall + smooth) if precision + recall else 0.0
    return {
        "accuracy": fmean(gold == predicted for gold, predicted in pairs),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "yes_ratio": fmean(predicted is True for _, predicted in pairs),
        "unparsed": fmean(predicted is None for _, predicted in pairs),
    }


def answer_pairs(records: Iterable[Record], parse: Parse, *, all_read: bool = False) -> list[tuple[bool, bool | None]]:
    """(gold, prediction) of yes/no records, parsed from their answer texts.

    A record without an answer text has no prediction; with `all_read` its whole response is parsed, as scripts do that
    know of no such thing.
    """
    pairs = []
    for record in records:
        text = record.response if all_read and record.answer_text is None else record.answer_text
        pairs.append((record.gold["yesno"], None if text is None else parse(text)))
    return pairs


def prefixed(prefix: str, metrics: Mapping[str, float | None]) -> Metrics:
    """Metrics under names that begin with a prefix."""
    return {f"{prefix}.{name}": value for name, value in metrics.items()}
