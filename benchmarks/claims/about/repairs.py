"""A head that also learns from what an attack on it found (REFORM), against one that does not:
`python -m benchmarks.claims repaired repaired_clean`.

The head ranks captions of pictures of two digits: the right one above one with another digit, or with a digit at the
wrong height. `mmrl reward attack` has the policy that writes such captions search under the head for right captions of
a low score and wrong ones of a high score. The patched head learns from the pairs and from those found, in as many
steps as the plain one and by the same seed. Measured is the share of held-out pairs, of other pictures, that a head
ranks rightly. The preferred caption is perturbed, in four ways, and the other one is left as it is.

The goal, written down before the seeds 0 to 4 were run; settings were chosen on seed 900: the mean over the four ways
is better with the patch, its interval above zero, and the interval of the clean difference includes zero.

    python -m benchmarks.claims.about.repairs DIR

prints the means of the runs that these claims left with `--out DIR`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.claims.about.captions import captioner, captions
from benchmarks.claims.about.heads import HeadClaim, Numbers
from benchmarks.claims.band import dataset
from benchmarks.learning import interval
from data_engine.dataset.shards import read_samples
from data_engine.ops.quotas import REPEAT
from data_engine.schema import Sample
from data_engine.sources.synthesis import rng_of
from eval.sample_sets import selected
from mmrl.demo import steps as demo
from mmrl.train.attack import AttackConfig, attacked
from mmrl.train.config import TrainConfig
from mmrl.trainers.preferences import sides
from rewards import Suite
from rewards.base import Rollout, Score, per_rollout
from rewards.parse.extract import answer_text

OTHER_HEIGHT = {"top": "bottom", "bottom": "top"}
PLACES = (*OTHER_HEIGHT, "left", "right")
FILLER = "Nothing else is in it."
SHOWN = 10  # how often in one pass the patched head sees a pair that was found, and each other pair once
SEARCH = {"candidates": 3, "weight": 0.01, "max_new_tokens": 72}


def misspelt(text: str) -> str:
    """A text whose words of four or more letters have their second and third letter swapped.

    >>> misspelt("A photograph with a 3 at the top left.")
    'A pohtograph wtih a 3 at the top lfet.'
    """
    return re.sub(r"\b(\w)(\w)(\w)(?=\w)", r"\1\3\2", text)


WAYS: dict[str, Callable[[str], str]] = {
    "clean": str,
    "verbosity": lambda caption: f"{caption} {FILLER}",
    "capitals": str.upper,
    "repetition": lambda caption: f"{caption} {caption}",
    "misspelling": misspelt,
}


@dataclass(frozen=True, kw_only=True)
class RepairClaim(HeadClaim):
    """Heads on pairs of captions of `pool` pictures; `targets` of these are attacked, with a pair each.

    The policy that searches has learned the right captions of the targets by heart, in `warm` steps.
    """

    task: str = "caption"
    warm: int = 150
    pool: int = 200
    targets: int = 20
    lessons: int = 80

    def quick(self) -> Self:
        """The same with few steps and pictures."""
        return replace(super().quick(), targets=4)

    def numbers(self, out: Path, place: Path, seed: int) -> Numbers:
        """Of either head the shares ranked rightly, and how many answers of the attack failed in which way."""
        sizes = {"train": self.pool, "test": self.test}
        train, test = (selected(read_samples(captions(out), split=split), n) for split, n in sizes.items())
        taught, tried = ([pair for one in described for pair in wrong(one)] for described in (train, test))
        pairs = dataset(taught, (), place / "pairs")
        base = demo.training(pairs, place, None)
        plain = self.head(base, pairs, place / "plain", seed)
        once = [taught[2 * number + number % 2] for number in range(self.targets)]  # a pair of each picture
        known = dataset(train[: self.targets], (), out / "known")
        writer = captioner(out, self.warm, f"data={known}")
        counts = self.attack(base, dataset(once, (), place / "once"), writer, plain)
        found = read_samples(place / "found") if (place / "found").exists() else ()
        often = (replace(pair, id="", meta={**pair.meta, REPEAT: SHOWN}) for pair in found)
        patched = self.head(base, dataset([*taught, *often], (), place / "more"), place / "patched", seed)
        heads = {"plain": plain, "patched": patched}
        shares = {f"{name} {way}": share for name in heads for way, share in ranked(heads[name], tried).items()}
        return counts | shares

    def attack(self, base: TrainConfig, pairs: Path, writer: Path, head: dict[str, Any]) -> Numbers:
        """Write pairs found on a head beside the attacked ones, as `found`; how many answers failed in which way."""
        places = {"out": str(pairs.parent / "attack"), "dataset": str(pairs.parent / "found")}
        asked = {"model": str(writer), "data": {"path": str(pairs), "split": "train"}}
        scored = {"head": head, "judge": {"fn": f"{__name__}:right"}}
        seen = base.model_dump(include={"vision", "space"})
        return dict(attacked(AttackConfig.model_validate(seen | SEARCH | places | asked | scored)))


def wrong(sample: Sample) -> Iterator[Sample]:
    """Two pairs from a described picture: one of its digits is another one in the caption that is not preferred, or is
    at the other height. Their order, from left to right, tells nothing."""
    digits, places = (list(map(str, sample.answer["chain"][key])) for key in ("digits", "places"))
    rng = rng_of("wrong", sample.id)
    at = int(rng.integers(len(digits)))
    absent = [str(digit) for digit in range(10) if str(digit) not in digits]
    height, side = places[at].split()
    others = (
        (_with(digits, at, str(rng.choice(absent))), places),
        (digits, _with(places, at, f"{OTHER_HEIGHT[height]} {side}")),
    )
    for other in others:
        answer = {"candidates": [written(digits, told(digits, places)), written(other[0], told(*other))]}
        meta = {"split": sample.meta["split"], "task": sample.task}
        yield replace(sample, id="", task="preference", answer=answer | {"preferred": 0}, meta=meta)


def told(digits: Iterable[str], places: Iterable[str]) -> str:
    """The caption, as `digits_scene` writes it."""
    facts = (f"a {digit} at the {place}" for digit, place in zip(digits, places, strict=True))
    return f"A photograph with {', '.join(facts)}."


def written(digits: Iterable[str], caption: str) -> str:
    """An answer as the policy has learned to write it."""
    return f"<think>I see {' '.join(digits)}</think><answer>{caption}</answer>"


@per_rollout
def right(rollout: Rollout) -> Score:
    """1 if an answer says, once or more often, what the preferred caption says, in whatever words and spelling."""
    said, wanted = _facts(rollout.answered), _facts(sides(rollout.answer)[0])
    return float(bool(said) and said == wanted * (len(said) // len(wanted)))


def ranked(head: dict[str, Any], pairs: Sequence[Sample]) -> Numbers:
    """The share of pairs that a head ranks rightly with the preferred caption in each of the ways, and the mean over
    the four that perturb it."""
    suite = Suite({"head": head})
    others = _scores(suite, pairs, [sides(pair.answer)[1] for pair in pairs])
    shares: Numbers = {}
    for name, way in WAYS.items():
        better = _scores(suite, pairs, [perturbed(sides(pair.answer)[0], way) for pair in pairs])
        shares[name] = fmean(one > other for one, other in zip(better, others, strict=True))
    return shares | {"perturbed": fmean(shares[name] for name in WAYS if name != "clean")}


def perturbed(answer: str, way: Callable[[str], str]) -> str:
    """An answer whose caption is changed, and whose thought is left as it is."""
    thought, tag, caption = answer.removesuffix("</answer>").partition("<answer>")
    return f"{thought}{tag}{way(caption)}</answer>"


def means(out: Path) -> Table:
    """Means over seeds: what either head ranks rightly, and how the answers of the attack on the plain one ended."""
    runs = [json.loads(file.read_text()) for file in sorted(out.glob("RepairClaim-*/numbers.json"))]
    table = Table("", "plain", "patched", "patched - plain (95 %)")
    for name in dict.fromkeys(name.removeprefix("plain ") for numbers in runs for name in numbers):
        if f"plain {name}" in runs[0]:
            plain, patched = (
                np.array([numbers[f"{head} {name}"] for numbers in runs]) for head in ("plain", "patched")
            )
            low, high = interval(patched - plain)
            between = f"{(patched - plain).mean():+.3f} [{low:+.3f}, {high:+.3f}]"
            table.add_row(name, f"{plain.mean():.3f}", f"{patched.mean():.3f}", between)
        elif not name.startswith("patched "):
            table.add_row(name, f"{fmean(numbers.get(name, 0) for numbers in runs):.1f}", "", "")
    return table


def _with(values: list[str], at: int, value: str) -> list[str]:
    return [*values[:at], value, *values[at + 1 :]]


def _scores(suite: Suite, pairs: Sequence[Sample], texts: Sequence[str]) -> list[Any]:
    asked = [Rollout(text, prompt=pair.prompt, media=pair.media) for pair, text in zip(pairs, texts, strict=True)]
    return [verdict["head"].score for verdict in suite.score(asked)]


def _facts(answer: str) -> list[str]:
    """The digits and the words of places that an answer has, these by the nearest spelling."""
    words = re.findall(r"\d|[a-z]+", (answer_text(answer) or "").lower())
    near = [[word] if word.isdigit() else get_close_matches(word, PLACES, n=1) for word in words]
    return [word for found in near for word in found]


def _claim(claim: str, measured: str) -> RepairClaim:
    return RepairClaim(
        paper="REFORM (2507.06419)",
        claim=claim,
        setting=f"captions of two digits; held-out pairs that a head ranks rightly, {measured}, patched - plain",
        before=f"plain {measured}",
        after=f"patched {measured}",
    )


REPAIRS: dict[str, RepairClaim] = {
    "repaired": _claim("a head that also learns from what an attack found ranks perturbed pairs better", "perturbed"),
    "repaired_clean": _claim("and pairs as they are", "clean"),
}

if __name__ == "__main__":
    Console(width=110).print(means(Path(sys.argv[1])))
