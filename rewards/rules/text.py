"""Rewards that compare the words of an answer with gold texts: charts, OCR, and text in one's own words."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from rapidfuzz.distance import LCSseq, Levenshtein

from rewards.base import Rollout, Verdict, abstain, gold, per_answer, unparsed
from rewards.parse.extract import CACHED, answer_text, ascii_forms, finite
from rewards.parse.numbers import POWER_OF_TEN, as_exponent
from rewards.parse.strings import NO_GOLD, answer_or_verdict, bare, by_first_word, gold_texts, mentions, texts_of, words

Variant = Literal["default", "raw", "strict_year", "lenient_number"]

_NUMBER = re.compile(r"[-+]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][-+]?[0-9]++)?+")
_YEAR = re.compile(r"(?:19\d\d|20\d\d|2100)", re.ASCII)
_WORDLIKE = re.compile(r"[^\W_]")
_MARK = re.compile(r"[!-/:-@\[-`{-~]")
_LONGEST_NUMBER = 400  # characters; a longer one is compared as text


def relaxed_match(
    rollouts: Sequence[Rollout], *, variant: Variant = "default", tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.05
) -> list[Verdict]:
    """1 if the answer is a gold text, or a number within `tolerance` (5 %) of a gold number other than 0 (ChartQA).

    Gold: `text`, one text or several. A final % divides by 100, on both sides; numbers are written plainly, so 1,500
    and $5 are texts. Case and a final period of the answer do not matter (2203.10244). `variant`: `raw` keeps that
    period, `strict_year` wants years from 1900 to 2100 exactly, `lenient_number` reads 1,500, $5 and 5 cm as numbers
    and lets one side omit its percent sign.

    >>> golds = {"text": ["40%"]}
    >>> [verdict.score for verdict in relaxed_match([Rollout("0.41", golds), Rollout("40", golds)])]
    [1.0, 0.0]
    """
    golds: dict[int, list[_Gold]] = {}  # the rollouts of a group share their answer, and many say the same
    known: dict[tuple[int, str], Verdict] = {}
    verdicts = []
    reads = answer_text if len(rollouts) <= CACHED else answer_text.__wrapped__  # of more, none is found again
    for rollout in rollouts:
        text, group = reads(rollout.answered), id(rollout.answer)
        verdict = known.get((group, text)) if text else None
        if verdict is None:
            rights = golds.get(group)
            if rights is None:
                rights = golds[group] = [_as_gold(bare(right), variant, tolerance) for right in gold_texts(rollout)]
            verdict = _relaxed(text, rights, variant) if rights else NO_GOLD
            if text:
                known[group, text] = verdict
        verdicts.append(verdict)
    return verdicts


@per_answer
def anls(rollout: Rollout, *, legacy: bool = False) -> Verdict:
    """1 - edit distance / longer length to the nearest gold text, and 0 from a distance of half on (DocVQA).

    Source: 1907.00490. Gold: `text`, one text or several. Both sides are compared in lower case with single blanks.
    `legacy=True` takes the lengths before that, and keeps exactly half.

    >>> golds = {"text": ["Paris", "Rome"]}
    >>> [verdict.score for verdict in anls([Rollout(said, golds) for said in ("Rome", "Pari", "Oslo")])]
    [1.0, 0.8, 0.0]
    """
    texts = texts_of(rollout)
    if isinstance(texts, Verdict):
        return texts
    answer, golds = texts
    plain = " ".join(answer.lower().split())
    score = max([_similarity(plain, _plain_gold(right), max(len(answer), len(right)) * legacy) for right in golds])
    return _similar(score)


@per_answer
def bleu(rollout: Rollout, *, guidance: bool = False) -> Verdict:
    """BLEU against all gold texts, add-one smoothed to order 4, with the brevity of the shortest one (BLEUBERI).

    Source: 2505.11080. BP * exp(mean_n log((matches_n + 1) / (possible_n + 1))) on 13a tokens. Gold: `text` or
    `references`. A very short answer has full precisions, so a short gold text invites one; `guidance=True` takes the
    brevity of the gold text nearest in length, and gives 0 to fewer than 4 tokens, if a gold text has so many. An
    answer without a word of a gold text scores 0: smoothing alone would give a single wrong word 0.84.

    >>> golds = {"references": ["the cat is on the mat"]}
    >>> [round(v.score, 6) for v in bleu([Rollout(f"the cat {verb} on the mat", golds) for verb in ("sat", "is")])]
    [0.488923, 1.0]
    """
    texts = texts_of(rollout)
    if isinstance(texts, Verdict):
        return texts
    tokens, (sizes, most) = _tokens_13a(texts[0]), _gold_ngrams(tuple(texts[1]))
    if not tokens or (guidance and len(tokens) < min(4, max(sizes))):
        return unparsed(f"{len(tokens)} tokens are too few")
    if not any((token,) in most and _WORDLIKE.search(token) for token in tokens) and _has_words(tuple(texts[1])):
        return Verdict(0.0, "no word in common")
    precisions = [_smoothed_precision(tokens, most, n) for n in range(1, 5)]
    wanted = min(sizes, key=lambda size: (abs(size - len(tokens)), size)) if guidance else min(sizes)
    brevity = min(1.0, math.exp(1 - wanted / len(tokens)))
    score = brevity * math.exp(sum(map(math.log, precisions)) / 4)
    return Verdict(
        score, f"brevity {brevity:.3f}, precisions {' '.join(f'{precision:.3f}' for precision in precisions)}"
    )


@per_answer
def chrf(
    rollout: Rollout,
    *,
    word_order: Annotated[int, Field(ge=0, le=4)] = 0,
    beta: Annotated[int, Field(ge=1, le=5)] = 2,
) -> Verdict:
    """The chrF of the best gold text, over 100, as sacrebleu defines it (Popović 2015).

    Gold: `text` or `references`. `word_order=2` is chrF++; `beta` weighs recall against precision.

    >>> [verdict.score for verdict in chrf([Rollout("a red bus", "a red bus"), Rollout("xyz", "a red bus")])]
    [1.0, 0.0]
    """
    texts = texts_of(rollout)
    if isinstance(texts, Verdict):
        return texts
    score = _chrf(word_order, beta).sentence_score(texts[0], texts[1]).score / 100
    return Verdict(min(score, 1.0), f"chrF {score:.3f}")


@per_answer
def rouge_l(rollout: Rollout) -> Verdict:
    """The ROUGE-L F1 of the best gold text: longest common subsequence of words, 2 LCS / (n + m) (Lin 2004).

    Gold: `text` or `references`.

    >>> golds = "police kill the gunman"
    >>> [verdict.score for verdict in rouge_l([Rollout("police killed the gunman", golds), Rollout(golds, golds)])]
    [0.75, 1.0]
    """
    texts = texts_of(rollout)
    if isinstance(texts, Verdict):
        return texts
    answer, golds = words(texts[0]), [*filter(None, map(words, texts[1]))]
    if not golds:
        return abstain("the gold texts have no words")
    if not answer:
        return unparsed("no words")
    score = max(2 * LCSseq.similarity(gold_words, answer) / (len(gold_words) + len(answer)) for gold_words in golds)
    return Verdict(score, f"rouge-l {score:.3f}")


@per_answer
def reward_chain(rollout: Rollout) -> Verdict:
    """How many keywords the answer has in order: the mean over key points of LCS / longer length (RLVRR, 2601.18533).

    The content reward of the paper. Gold: `chain`, key points with their keywords in order, or several such chains from
    several references, of which the best counts for each key point. Keywords of the answer are counted with repetition,
    so repeating them costs.

    >>> chain = {"parts": ["solar panel", "inverter", "battery"], "money": ["cost", "payback"]}
    >>> answers = "Solar panel, battery, inverter; the cost.", "Solar panel, inverter, battery: the cost, the payback."
    >>> [round(verdict.score, 7) for verdict in reward_chain([Rollout(answer, {"chain": chain}) for answer in answers])]
    [0.5833333, 1.0]
    """
    chains = _chains(gold(rollout, "chain"))
    if not chains:
        return abstain("gold chain is not {key point: [keywords]}, or a list of them")
    text = answer_text(rollout.answered)
    if not text:
        return unparsed("no answer")
    answer = words(text)
    best: dict[str, float] = {}
    for chain in chains:
        for point, keywords in chain.items():
            found = mentions(answer, _by_first_word(tuple(keywords)))
            best[point] = max(best.get(point, 0.0), LCSseq.similarity(keywords, found) / max(len(keywords), len(found)))
    score = sum(best.values()) / len(best)
    return Verdict(score, ", ".join(f"{point} {value:.2f}" for point, value in best.items()))


@functools.lru_cache(maxsize=16)
def _chrf(word_order: int, beta: int) -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=word_order, beta=beta)


def _digits(text: str) -> float | None:
    """The number that a text of digits writes; None if it is something else."""
    try:
        return float(text) if text.isascii() and "_" not in text and len(text) <= _LONGEST_NUMBER else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Gold:
    """A gold text: as it is compared, its number if it has one that is not 0, and how far an answer may be from it."""

    text: str
    folded: str
    number: float | None
    reach: float


def _as_gold(text: str, variant: Variant, tolerance: float) -> _Gold:
    number = _chart_number(text, variant == "lenient_number")
    if variant == "strict_year" and _YEAR.fullmatch(text.strip()):
        return _Gold(text, text.strip(), None, 0.0)
    folded = (text if variant == "raw" else text.strip()).casefold()
    return _Gold(text, folded, number or None, tolerance * abs(number or 0.0) * (1 + 1e-9))  # floats are not exact


def _relaxed(text: str | None, golds: Sequence[_Gold], variant: Variant) -> Verdict:
    """The verdict on an answer; a plain number, the usual answer, is compared at once."""
    value = _digits(text) if text and "0" <= text[0] <= "9" and "0" <= text[-1] <= "9" else None
    if value is None or not text:
        read = answer_or_verdict(text)
        if isinstance(read, Verdict):
            return read
        text, value = read, _chart_number(read, variant == "lenient_number")
        if value is None and text.endswith(".") and variant != "raw":
            value = _chart_number(text[:-1], variant == "lenient_number")
    for gold_text in golds:
        if gold_text.number is not None and value is not None:
            right, said = gold_text.number, value
            if variant == "lenient_number" and ("%" in text) != ("%" in gold_text.text):
                said, right = (said * 100, right) if "%" in text else (said, right * 100)
                same = abs(said - right) <= gold_text.reach * (right / gold_text.number)
            else:
                same = abs(said - right) <= gold_text.reach
        else:
            plain = text.casefold()
            same = plain == gold_text.folded or (
                variant != "raw" and plain.endswith(".") and plain[:-1].strip() == gold_text.folded
            )
        if same:
            return Verdict(1.0, f"said {text[:80]}")
    return Verdict(0.0, f"said {text[:80]}, gold {golds[0].text[:80]}")


def _chart_number(text: str, lenient: bool) -> float | None:
    return _short_number(text, lenient) if len(text) <= _LONGEST_NUMBER else None


@functools.lru_cache(maxsize=4096)  # gold numbers come again with every rollout of their group
def _short_number(text: str, lenient: bool) -> float | None:
    plain = ascii_forms(text).strip()
    if "10" in plain:
        plain = POWER_OF_TEN.sub(as_exponent, plain)
    if lenient:
        plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)
        found = re.fullmatch(rf"[$€£¥\s]*+({_NUMBER.pattern})\s*+(%?+)[^\W\d_]*+", plain)
        plain = "".join(found.groups()) if found else plain
    percent = plain.endswith("%")
    plain = plain.removesuffix("%").strip()
    value = finite(plain) if _NUMBER.fullmatch(plain) else None
    return value / 100 if value is not None and percent else value


def _similarity(a: str, b: str, length: int) -> float:
    """1 - distance / length (by default the longer one's), 0 where that is too far; a given length keeps half."""
    longer = length or max(len(a), len(b))
    if not longer:
        return 1.0
    distance = Levenshtein.distance(a, b, score_cutoff=longer // 2) / longer
    return 1 - distance if distance < 0.5 or (length and distance == 0.5) else 0.0


@functools.lru_cache(maxsize=4096)  # a verdict is frozen, and many are equal
def _similar(score: float) -> Verdict:
    return Verdict(score, f"similarity {score:.3f}")


@functools.lru_cache(maxsize=4096)  # the rollouts of a group share their gold texts
def _plain_gold(text: str) -> str:
    return " ".join(text.lower().split())


def _tokens_13a(text: str) -> list[str]:
    """The tokens of mteval-v13a as the BLEU of `evaluate` cuts them."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(entity, character)
    if not _MARK.search(text):
        return text.split()
    text = re.sub(r"([{-~\[-`!-&(-+:-@/])", r" \1 ", f" {text} ")
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    return re.sub(r"([0-9])(-)", r"\1 \2 ", text).split()


@functools.lru_cache(maxsize=64)
def _has_words(texts: tuple[str, ...]) -> bool:
    return any(map(_WORDLIKE.search, texts))


@functools.lru_cache(maxsize=64)  # the rollouts of a group share their gold texts
def _gold_ngrams(texts: tuple[str, ...]) -> tuple[list[int], Counter[tuple[str, ...]]]:
    """How many tokens each gold text has, and how often each n-gram of order 1 to 4 is in the one that has most."""
    golds = [_tokens_13a(text) for text in texts]
    most: Counter[tuple[str, ...]] = Counter()
    for tokens in golds:
        most |= Counter(gram for n in range(1, 5) for gram in _ngrams(tokens, n))
    return [len(tokens) for tokens in golds], most


def _smoothed_precision(tokens: Sequence[str], most: Mapping[tuple[str, ...], int], n: int) -> float:
    """The share of n-grams that occur in a gold text, counted at most as often as there, one added to both counts."""
    common = sum(min(count, most[gram]) for gram, count in Counter(_ngrams(tokens, n)).items() if gram in most)
    return (common + 1) / (max(len(tokens) - n + 1, 0) + 1)


def _ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(tokens[i:] for i in range(n)), strict=False)


def _chains(value: Any) -> list[dict[str, list[tuple[str, ...]]]]:
    """The keywords of each key point as tuples of words; key points without any are left out."""
    chains = []
    for chain in [value] if isinstance(value, Mapping) else value if isinstance(value, list) else []:
        read = {}
        for point, keywords in chain.items() if isinstance(chain, Mapping) else ():
            named = [keywords] if isinstance(keywords, str) else keywords or []
            listed = [_keyword(keyword) for keyword in named if isinstance(keyword, str)]
            if listed := [keyword for keyword in listed if keyword]:
                read[str(point)] = listed
        chains += [read] if read else []
    return chains


_by_first_word = functools.lru_cache(maxsize=4096)(by_first_word)  # the rollouts of a group share their keywords


@functools.lru_cache(maxsize=4096)
def _keyword(text: str) -> tuple[str, ...]:
    return tuple(words(text))
