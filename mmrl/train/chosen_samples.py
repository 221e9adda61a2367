"""The samples of a smoke test: a few that show every task and every kind of media that the data have."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from data_engine.dataset.pairs import picture_pairs
from data_engine.schema import Sample

MOST = 16
PAIRS = 4  # of pictures


def kind_of(sample: Sample) -> str:
    """What a sample tries: its task and its media.

    >>> kind_of(Sample("", "s", "yesno", [], {}))
    'yesno (text only)'
    """
    counts = Counter(media.kind for media in sample.media)
    names = [kind if count == 1 else f"several {kind}s" for kind, count in sorted(counts.items())]
    return f"{sample.task} ({' and '.join(names) or 'text only'})"


def spread(samples: Sequence[Sample], most: int = MOST) -> tuple[list[Sample], list[str]]:
    """(samples of all kinds in turn, the kinds for which there was no room). Rare kinds come first.

    Their number is a multiple of four, or all that there are: two steps of four prompts try eight.
    """
    by_kind: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_kind[kind_of(sample)].append(sample)
    kinds = sorted(by_kind, key=lambda kind: (len(by_kind[kind]), kind))
    left_out = kinds[most:]
    wanted = min(most, max(8, -(-len(kinds) // 4) * 4), len(samples))
    wanted -= wanted % 4 if wanted > 4 else 0
    rounds = [by_kind[kind][turn] for turn in range(most) for kind in kinds[:most] if turn < len(by_kind[kind])]
    return rounds[:wanted], sorted([*left_out, *(kind for kind in kinds[wanted:most])])


def spread_preferences(samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """As `spread`, and both sides of a few pairs of pictures."""
    told, left_out = spread([sample for sample in samples if "pair" not in sample.meta])
    shown = picture_pairs([sample for sample in samples if "pair" in sample.meta])[:PAIRS]
    return [*told, *(side for pair in shown for side in pair)], left_out
