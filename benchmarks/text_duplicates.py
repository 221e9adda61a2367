"""Near-duplicate texts, one core, against datasketch: MinHash over word triples, then LSH.

    python -m benchmarks.text_duplicates [--quick] [--json FILE]

One text in ten is an earlier one with a word exchanged. Both sides keep the first of texts that share 0.8 of their
triples. Before their times count, both must find at least 90 % of the planted texts and little else. datasketch runs
with weights (0.2, 0.8), which prefer useless comparisons to missed texts; with its defaults it finds 88 %.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

from benchmarks.rounds import compared, parser_of, report
from data_engine.similar.minhash import TextIndex, sketch
from data_engine.words import words

TRIPLE = 3  # words


def texts(count: int) -> tuple[list[str], set[int]]:
    """(texts of 40 to 80 words, the places of those that are nearly an earlier one)."""
    draw = random.Random(0)
    vocabulary = [f"word{number}" for number in range(5000)]
    made: list[str] = []
    planted = set[int]()
    for place in range(count):
        tokens = draw.choices(vocabulary, k=draw.randint(40, 80))
        if place % 10 == 9:
            tokens = made[draw.randrange(place // 10 + 1) * 10].split()
            tokens[draw.randrange(len(tokens))] = "exchanged"
            planted.add(place)
        made.append(" ".join(tokens))
    return made, planted


def ours(made: Sequence[str]) -> set[int]:
    index, repeats = TextIndex(0.8), set[int]()
    for place, text in enumerate(made):
        words = sketch(text)
        if index.matches(words, 0.8):
            repeats.add(place)
        else:
            index.add(words)
    return repeats


def datasketch(made: Sequence[str]) -> set[int]:
    index, repeats = MinHashLSH(threshold=0.8, num_perm=128, weights=(0.2, 0.8)), set[int]()
    for place, text in enumerate(made):
        tokens = words(text)
        sketch = MinHash(num_perm=128)
        sketch.update_batch([" ".join(tokens[i : i + TRIPLE]).encode() for i in range(len(tokens) - TRIPLE + 1)])
        if index.query(sketch):
            repeats.add(place)
        else:
            index.insert(place, sketch)
    return repeats


def main(argv: Sequence[str] | None = None) -> None:
    """Check that both find what was planted, measure, print the table, write the rows."""
    options = parser_of(__doc__, "2,000 texts and three rounds").parse_args(argv)
    count, rounds = (2000, 3) if options.quick else (20_000, 5)
    made, planted = texts(count)
    for find in (ours, datasketch):
        repeats = find(made)
        if len(repeats & planted) < 0.9 * len(planted) or len(repeats - planted) > 0.01 * count:
            raise SystemExit(
                f"{find.__name__} found {len(repeats & planted)} of {len(planted)}, and {len(repeats - planted)} more"
            )
    row = compared("near duplicates", lambda: ours(made), lambda: datasketch(made), count, rounds, unit="texts/s")
    report([row], options.json)


if __name__ == "__main__":
    main()
