"""Answers are read by evidence, never guessed, and in time linear in the text."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.parse import extract
from rewards.parse.choices import choice_letter
from rewards.parse.extract import answer_text, yes_no
from rewards.parse.numbers import number
from rewards.parse.regions import boxes
from rewards.parse.spans import spans

OPTIONS = ["a red bus", "bus", "blue cat", "dog"]
LENGTH = 100_000


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("<think>A</think> <answer> B </answer>", "B"),
        ("no opening tag</think>B", "B"),
        ("<think>never ends <answer>B</answer>", None),
        ("<think>a</think>B<think>second thoughts", None),
        ("<think>a</think>x<think>b</think>y", "xy"),
        ("<think>a<think>b</think>c</think>B", "B"),
        ("<think><answer>A</answer></think>B", "B"),
        ("<answer>A</answer> or <answer>B</answer>", "B"),
        ("<answer>A</answer> or <answer>B", "A"),
        ("<answer>A <answer>B</answer>", "B"),
        ("<answer></answer>", ""),
        ("<answer>1 < 2</answer>", "1 < 2"),
        (r"so \boxed{1}, no: \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"<answer>A</answer> \boxed{B}", "A"),
        ("just B", "just B"),
        ("", ""),
    ],
)
def test_the_answer_is_the_last_complete_pair_after_the_thinking(completion: str, text: str | None) -> None:
    assert answer_text(completion) == text


@pytest.mark.parametrize(
    "text",
    ["B", "b", "(b)", "[B]", "{B}", "**B**", '"B"', "B.", "B)", "B:", "B,", r"\boxed{B}", r"\text{B}", r"$\boxed{b}$"],
)
def test_a_text_that_is_one_letter_chooses_it_however_wrapped(text: str) -> None:
    assert choice_letter(text, "ABCD") == "B"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(A) looks right, but the answer is B", "B"),
        ("The final answer is: **(B)**", "B"),
        ("**Answer:** C", "C"),
        ("the correct option is [D].", "D"),
        ("Best choice : A", "A"),
        (r"The answer is \boxed{C}", "C"),
        ("Answer: A\nno. Answer: D", "D"),
        ("The answer is B because A is a bus", "B"),
        ("the answer is B-52", None),
        ("B. a blue bus", "B"),
        ("C) dog, surely not (A)", "C"),
        ("not (A), it is (C)", "C"),
        ("I think B", "B"),
        ("It must be C, yes C", "C"),
        ("A bus", "B"),
        ("blue CAT!", "C"),
        ("the red bus", "A"),
        ("a red bus", "A"),
        ("a red bus beside another bus", None),
        ("the dog and the bus", None),
        ("dogma", None),
        ("CAB", None),
        ("x-A A's A-frame", None),
        ("E", None),
        ("(F) or rather (B)", "B"),
        ("A and B", None),
        ("either A or C", None),
        ("(A) or (C)", None),
        ("the answer is A or B", None),
        ("the answer is A, B", None),
        ("the answer is A/B", None),
        ("the answer is B, A is wrong", "B"),
        ("either A or C. The answer is C", "C"),
        ("answer is b", "B"),
        ("answer is b-52", None),
        ("Sorry, I cannot say (B)", None),
        ("I cannot determine the bus", None),
        ("Sorry for the noise. The answer is B", "B"),
        ("", None),
        ("???", None),
    ],
)
def test_the_strongest_evidence_decides_and_a_tie_decides_nothing(text: str, letter: str | None) -> None:
    assert choice_letter(text, "ABCD", OPTIONS) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("not A", None),
        ("The answer is not (B).", None),
        ("It isn't option C", None),
        ("It is not A but B", "B"),
        ("B, not A", "B"),
        ("not A or B", None),
        ("答案不是A", None),
        ("not bad: C", "C"),
    ],
)
def test_a_letter_that_is_denied_is_not_chosen(text: str, letter: str | None) -> None:
    assert choice_letter(text, "ABCD") == letter


@pytest.mark.parametrize(
    "text",
    [
        *("Ｂ", "（Ｂ）", "答案是B", "答案：Ｂ。", "选B", "答えはBです", "답은 B입니다", "La respuesta es B."),
        *("这是猫。", "猫"),
    ],
)
def test_letters_and_options_are_read_beside_signs_and_in_full_width(text: str) -> None:
    assert choice_letter(text, "AB", ["狗", "猫"]) == "B"


def test_numbers_and_words_are_read_in_full_width_and_with_arabic_separators() -> None:
    assert [number(text) for text in ("３．５", "−３．５", "٣٫٥")] == [3.5, -3.5, 3.5]
    assert number("１，２００", thousands=True) == 1200
    assert [yes_no("ＹＥＳ"), yes_no("ｎｏ")] == [True, False]


def test_an_option_may_be_worded_like_a_refusal() -> None:
    options = ["red", "cannot be determined"]
    assert choice_letter("It cannot be determined.", "AB", options) == "B"
    assert choice_letter("It cannot be determined.", "AB", ["red", "blue"]) is None


def test_options_that_are_numbers_are_whole_numbers_and_twins_decide_nothing() -> None:
    assert choice_letter("it is 5.5", "AB", ["5", "5.5"]) == "B"
    assert choice_letter("it is 15", "AB", ["5", "1"]) is None
    assert choice_letter("cat", "AB", ["cat", "Cat"]) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3.0),
        ("3.", 3.0),
        ("-1.5e3 cm", -1500.0),
        ("−3", -3.0),
        ("x=.5", 0.5),
        ("5 cm^2", 5.0),
        ("1 + 2 = 3", 3.0),
        ("5 - done", 5.0),
        (r"x is \boxed{42}, not 7", 42.0),
        (r"1.2 \times 10^{3}", 1200.0),
        ("３", 3.0),
        ("1,200", None),
        ("12%", None),
        ("1/2", None),
        (r"\frac{1}{2}", None),
        ("10^3", None),
        ("10^{3}", None),
        ("1.5 × 10³", 1500.0),
        ("10³", None),
        (r"2\sqrt{3}", None),
        (r"3\frac{1}{2}", None),
        ("3½", None),
        (r"5\pi", None),
        (r"5^{\circ}", 5.0),
        (r"5\,\text{cm}", 5.0),
        (r"60 \frac{\text{km}}{\text{h}}", 60.0),
        (r"1{,}5", None),
        (r"1\,200", None),
        ("10:30", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("three", 3.0),
        ("three or four", None),
    ],
)
def test_a_number_is_the_last_plain_decimal(text: str, value: float | None) -> None:
    assert number(text) == value


def test_commas_and_percent_signs_are_read_only_where_asked_for() -> None:
    assert number("1,234,567.5", thousands=True) == 1234567.5
    assert number("1,20", thousands=True) == 1.2
    assert number("1,20") is number("3, 1,20", thousands=True) is None
    for text in ("1{,}200", r"1\,200", r"1,\!200", "1\u202f200", "1\xa0200"):
        assert number(text, thousands=True) == 1200
    assert number("12 %", percent=True) == number(r"12\%", percent=True) == 12.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes.", True),
        ("**NO**", False),
        ("yes, it is not red", True),
        ("no yes", None),
        ("not", None),
        ("nonetheless", None),
        ("notice", None),
        ("", None),
    ],
)
def test_yes_and_no_are_words_and_only_one_may_occur(text: str, value: bool | None) -> None:
    assert yes_no(text) is value


READERS: dict[str, Callable[[str], Any]] = {
    "answer_text": answer_text,
    "boxed": extract.boxed,
    "choice of four": partial(choice_letter, letters="ABCD", options=["a", "bus", "red bus", "cat dog"]),
    "choice of any": choice_letter,
    "number": partial(number, thousands=True, percent=True),
    "yes_no": yes_no,
    "boxes": boxes,
    "spans": spans,
}
REPEATED = [
    *("a", " ", "\n", "1", "é", "１", "_", "-", "[", "[]", "(", "{", "<", "{}", "A ", "A, ", "A-", "(A), "),
    *("**A** or ", "<think>", "</think>", "<answer>", "<answer></answer>", "\\boxed{", "\\boxed{{}", "[1,", "[1 "),
    *("(1 2 ", "[[1,2],", "1,", "1.", "1-", "1e1e1.1.1", "1,111", "01:23 ", "1 to ", "between 1 ", "x10^"),
    *("<box>(1,2),", "start at 1 ", "starts at 1 ends at ", "```", "```[", "```[]", "```json\n[1,2]"),
    *('{"bbox":[1,2,3,4],', '[{"a":', '{"start": 1, "end":', "answer is ", "answer: ("),
    *("the answer is A or ", "option A, option B ", "cannot ", "no yes ", "red bus red ", "answer" + " " * 100),
]  # fmt: skip
BAITS = [
    *((text * LENGTH)[:LENGTH] for text in REPEATED),
    *(
        head + " " * LENGTH
        for head in ("[", "[1", "<box>", "answer is", "1", "start", "A", "(A", "between 1", "\\boxed")
    ),
    *(head + "1" * LENGTH for head in ("[", "-", "1.", "start ", "[" * 1000)),
    "\\boxed{" + "{}" * (LENGTH // 2),
    "\\boxed{" + "{" * LENGTH,
    "A, " * (LENGTH // 3) + "x",
]


@pytest.mark.parametrize("reader", READERS)
def test_no_bait_of_100_kb_takes_long(reader: str) -> None:
    """About 10 ms at most on an idle core; the limit leaves room for a busy one. A quadratic pattern takes seconds."""
    read = READERS[reader]
    slow = {bait[:30]: seconds for bait in BAITS if (seconds := _least_seconds(read, bait)) > 0.05}
    assert not slow


def _least_seconds(read: Callable[[str], Any], text: str) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        read(text)
        best = min(best, time.process_time() - start)
        if best < 0.02:
            break
    return best


SCRAPS = st.sampled_from(
    [
        *("<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "<box>", "</box>", "```", "json", '"', "bbox"),
        *(":", "{", "}", "[", "]", "(", ")", ",", ".", "-", "−", "%", "^", "*", "1", "2.5", "1e9", "0:05", "３"),
        *("A", "B", "yes", "no", "and", "or", "is", "to", "answer", "start", "end", "between", "from"),
        *("\ud800", "\x00"),
    ]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(SCRAPS, max_size=30).map(" ".join), st.lists(SCRAPS, max_size=30).map("".join))


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_arbitrary_text_never_raises(text: str) -> None:
    for read in READERS.values():
        read(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_back_as_itself(value: float) -> None:
    assert number(repr(value)) == value
    assert number(f"<b>it is {value!r}.</b>") == value


@given(
    st.sampled_from("ABCD"),
    st.sampled_from(["{}", "({})", "Answer: {}", "the answer is **{}**.", "{}. it is", "I'd say ({})"]),
)
def test_every_wording_of_a_letter_chooses_that_letter(letter: str, wording: str) -> None:
    assert choice_letter(wording.format(letter), "ABCD", ["one", "two", "three", "four"]) == letter
