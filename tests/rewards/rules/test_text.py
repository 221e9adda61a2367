"""Rewards of text by the numbers of their papers."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import LCSseq, Levenshtein

from rewards import Rollout, Verdict, get

reward_of = functools.cache(get)
NAMES = ["relaxed_match", "anls", "bleu", "chrf", "rouge_l"]


def verdict(name: str, completion: str, golds: Any, **options: Any) -> Verdict:
    return reward_of(name, **options)([Rollout(completion, {"text": golds})])[0]


@pytest.mark.parametrize(
    ("completion", "gold", "right"),
    [
        ("104.9", "100", ("default", "raw", "strict_year", "lenient_number")),
        ("105", "100", ("default", "raw", "strict_year", "lenient_number")),
        ("105.1", "100", ()),
        ("-100", "100", ()),
        ("10%", "10", ("lenient_number",)),
        ("0.4", "40%", ("default", "raw", "strict_year")),
        ("40", "40%", ("lenient_number",)),
        ("40%", "40%", ("default", "raw", "strict_year", "lenient_number")),
        ("0", "0", ("default", "raw", "strict_year", "lenient_number")),
        ("0.0", "0", ()),
        ("1,500", "1500", ("lenient_number",)),
        ("$5", "5", ("lenient_number",)),
        ("5 million", "5", ("lenient_number",)),
        ("2010", "2019", ("default", "raw", "lenient_number")),
        ("Blue.", "blue", ("default", "strict_year", "lenient_number")),
        ("dark blue", "blue", ()),
        ("nan", "5", ()),
        ("5" * 500, "5", ()),
    ],
)
def test_chartqas_relaxed_match_and_its_variants(completion: str, gold: str, right: tuple[str, ...]) -> None:
    for variant in ("default", "raw", "strict_year", "lenient_number"):
        assert verdict("relaxed_match", completion, [gold], variant=variant).score == float(variant in right), variant


def test_any_gold_text_will_do() -> None:
    assert verdict("relaxed_match", "<answer>9.9</answer>", ["blue", "10"]).score == 1


@pytest.mark.parametrize(
    ("completion", "golds", "score", "legacy"),
    [
        ("paris.", ["paris"], 0.8333333, 0.8333333),
        ("  Paris ", ["rome", "paris"], 1, 1),
        ("ab", ["ac"], 0, 0.5),
        ("x", ["paris"], 0, 0),
        ("a  b", ["a b"], 1, 1),
    ],
)
def test_anls_and_its_legacy_form(completion: str, golds: list[str], score: float, legacy: float) -> None:
    assert verdict("anls", completion, golds).score == pytest.approx(score, abs=1e-6)
    assert verdict("anls", completion, golds, legacy=True).score == pytest.approx(legacy, abs=1e-6)


@pytest.mark.parametrize(
    ("completion", "golds", "score"),
    [
        ("the cat sat on the mat", ["the cat is on the mat"], 0.4889230),
        ("the cat", ["the cat is on the mat"], 0.1353353),
        ("the cat", ["the cat is on the mat", "a cat"], 1.0),
    ],
)
def test_bleuberis_bleu(completion: str, golds: list[str], score: float) -> None:
    assert verdict("bleu", completion, golds).score == pytest.approx(score, abs=1e-6)


def test_bleuberis_precisions_are_add_one_smoothed_at_every_order() -> None:
    why = verdict("bleu", "the cat sat on the mat", ["the cat is on the mat"]).why
    assert why == "brevity 1.000, precisions 0.857 0.667 0.400 0.250"


def test_smoothing_pays_no_answer_without_a_word_of_the_gold() -> None:
    assert verdict("bleu", "zebra", ["Paris"]).score == 0
    assert verdict("bleu", "Paris", ["Paris"]).score == verdict("bleu", "Paris", ["Paris"], guidance=True).score == 1
    assert verdict("bleu", ". . . .", ["a cat."], guidance=True).score == 0


def test_guidance_closes_bleus_exploits() -> None:
    golds = ["the cat is on the mat", "a cat"]
    assert verdict("bleu", "the cat", golds, guidance=True).kind == "unparsed"
    long = "the cat is on the"
    assert (verdict("bleu", long, golds, guidance=True).score or 0) < (verdict("bleu", long, golds).score or 0) == 1


def test_bleu_cuts_punctuation_off_as_13a_does() -> None:
    assert verdict("bleu", "Hello, world! 3.5 x-y &amp; 1-2", ["Hello , world ! 3.5 x-y & 1 - 2"]).score == 1


def test_chrf_is_sacrebleus() -> None:
    from sacrebleu import sentence_chrf

    expected = sentence_chrf("a red car", ["a red bus", "the car"]).score / 100
    assert verdict("chrf", "a red car", ["a red bus", "the car"]).score == pytest.approx(expected)
    assert 0 < expected < 1


def test_rouge_l_by_hand() -> None:
    assert verdict("rouge_l", "The, cat.", ["the cat sat on it"]).score == pytest.approx(2 * 2 / 7)
    assert verdict("rouge_l", "!!", ["the cat"]).kind == "unparsed"


def chain(completion: str, value: Any) -> Verdict:
    return reward_of("reward_chain")([Rollout(completion, {"chain": value})])[0]


CHAIN = {"1": ["solar panel", "inverter", "battery"], "2": ["cost", "payback"]}


def test_rlvrrs_reward_chain() -> None:
    assert chain("A Solar  panel, then battery, inverter. The cost!", CHAIN).score == pytest.approx(0.5833333)
    assert chain("solar panel inverter battery cost payback", CHAIN).score == 1
    assert chain("solar panels inverters", CHAIN).score == 0


def test_stuffing_keywords_costs_and_the_best_reference_counts() -> None:
    stuffed = chain("solar panel inverter battery " * 3 + "cost payback", CHAIN)
    assert stuffed.score == pytest.approx((1 / 3 + 1) / 2)
    assert chain("payback cost", [{"2": ["cost", "payback"]}, {"2": ["payback", "cost"]}]).score == 1
    assert chain("new york city", {"1": ["new york city", "new york"]}).score == pytest.approx(0.5)


def test_chinese_and_kana_are_compared_sign_by_sign() -> None:
    assert verdict("rouge_l", "一只猫。", ["一只狗"]).score == pytest.approx(2 * 2 / 6)
    assert verdict("rouge_l", "ねこ", ["いぬ"]).score == 0
    assert chain("这里有太阳能板和电池。", {"1": ["太阳能板", "电池"]}).score == 1
    assert (verdict("repetition", "很好" * 20, []).score or 0) < -0.9


def test_a_chain_without_keywords_abstains() -> None:
    for value in ({}, {"1": []}, None, "words", [3]):
        assert chain("words", value).kind == "abstained"
    assert chain("", CHAIN).kind == "unparsed"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_said_is_0_and_nothing_wanted_abstains(name: str) -> None:
    for completion in ("", " ", "<answer></answer>", "<think>endless"):
        assert verdict(name, completion, ["a"]).kind == "unparsed"
    for golds in ([], "", [" "], None, 3, [None]):
        assert verdict(name, "a", golds).kind == "abstained"


text = st.text("ab c.%1,05é\n", max_size=40)


@settings(deadline=None, max_examples=20)
@given(completion=text | st.text(max_size=40), gold=text.filter(str.strip))
def test_scores_are_in_range_and_the_gold_scores_1(completion: str, gold: str) -> None:
    for name in NAMES:
        for value in (verdict(name, completion, [gold]), verdict(name, completion, [gold, completion])):
            assert value.score is None or 0 <= value.score <= 1
        if name == "bleu" or any(character.isalnum() for character in gold):
            same = verdict(name, gold, [gold])
            assert same.score == pytest.approx(1) or same.kind == "unparsed", (name, same)


near = st.text("abé李\ud800🙂", max_size=70)  # few characters: many of them in common


@settings(deadline=None, max_examples=100)
@given(a=near | st.text(max_size=70), b=near | st.text(max_size=70))
def test_distances_and_common_lengths_are_those_of_the_plain_algorithms(a: str, b: str) -> None:
    distances = list(range(len(b) + 1))
    lengths = [0] * (len(b) + 1)
    for i, left in enumerate(a, 1):
        above, long_above = distances, lengths
        distances, lengths = [i], [0]
        for j, right in enumerate(b, 1):
            distances.append(min(above[j] + 1, distances[-1] + 1, above[j - 1] + (left != right)))
            longest = long_above[j - 1] + 1 if left == right else max(long_above[j], lengths[-1])
            lengths.append(longest)
    assert Levenshtein.distance(a, b) == distances[-1]
    assert LCSseq.similarity([f"{letter}!" for letter in a], [f"{letter}!" for letter in b]) == lengths[-1]
    plain = " ".join(a.lower().split()), " ".join(b.lower().split())
    if a == plain[0] and b == plain[1] and a and b and "\\" not in a and "<" not in a:
        distance = distances[-1] / max(len(a), len(b))
        assert verdict("anls", a, [b]).score == (1 - distance if distance < 0.5 else 0)


@pytest.mark.parametrize("name", [*NAMES, "reward_chain"])
@pytest.mark.parametrize("bait", ["1,", "a ", ".-é%&amp;"])
def test_a_hundred_kilobytes_take_no_time(name: str, bait: str) -> None:
    rollout = Rollout(bait * (100_000 // len(bait)), {"text": ["50%", "a red bus"], "chain": CHAIN})
    reward_of(name)([Rollout("a", {"text": "a"})])
    start = time.process_time()
    assert reward_of(name)([rollout])[0].score is not None
    assert time.process_time() - start < (2 if name == "chrf" else 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_a_box_inside_the_answer_tags_and_a_gold_of_the_other_name_are_read(name: str) -> None:
    plain = reward_of(name)([Rollout("a red bus stands there", {"text": "a red bus stands there"})])[0]
    boxed = r"<answer>\boxed{a red bus stands there}</answer>"
    assert verdict(name, boxed, "a red bus stands there") == plain
    given = {"text": None, "references": ["a red bus stands there"]}
    assert reward_of(name)([Rollout("a red bus stands there", given)])[0] == plain


def test_one_keyword_of_a_chain_need_not_be_a_list() -> None:
    (verdict,) = reward_of("reward_chain")([Rollout("The cost is high.", {"chain": {"money": "cost"}})])
    assert verdict.score == 1
