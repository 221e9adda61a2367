"""The answer of a completion: the text that counts, and in it a choice, a number, or yes or no.

Nothing is guessed: an unclear answer is None. Every pattern in this file and in `rewards.parse.regions` takes time
linear in the text, however it is baited: repeats are possessive (`*+`) or bounded.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from string import ascii_uppercase

MAX_NAMING = 20_000  # characters of an answer in which option texts are looked for; in longer ones it takes too long

SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and han: written without blanks, so each is a word of its own
_FORMS = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: " ", 0x2212: "-", 0x066B: ".", 0x066C: ","}

_THINK = re.compile(r"</?think>")
_ANSWER = re.compile(r"<answer>([^<]*+(?:<(?!/?answer>)[^<]*+)*+)</answer>")


def _braced(depth: int) -> str:
    """A pattern of text whose braces are balanced, nested up to `depth` deep."""
    return rf"[^{{}}]*+(?:\{{{_braced(depth - 1)}\}}[^{{}}]*+)*+" if depth else r"[^{}]*+"


_BOXED = re.compile(rf"\\boxed\s*+\{{({_braced(5)})\}}")


@functools.lru_cache(maxsize=4096)  # every reward of a suite asks for it, one after the other
def answer_text(completion: str) -> str | None:
    """The text that is scored: after the thinking, inside the last answer pair, else the last box, else all of it.

    None where a `<think>` block is not closed.

    >>> answer_text("<think>A or B?</think> So <answer>(B)</answer>")
    '(B)'
    """
    start, thought = completion.rfind("<answer>"), completion.rfind("</think>")
    if -1 < start > thought and completion.find("<think>", max(thought, 0)) < 0:  # the usual form, quickly
        end = completion.find("</answer>", start)
        if end > start:
            return completion[start + 8 : end].strip()
    text = without_thinking(completion)
    if text is None:
        return None
    answers = _ANSWER.findall(text)
    return (answers[-1] if answers else boxed(text)).strip()


def without_thinking(completion: str) -> str | None:
    """The completion without its `<think>` blocks, None if one is unclosed.

    A closing tag without an opening one ends thinking that the prompt began: all before it goes.
    """
    before, closing, after = completion.rpartition("</think>")
    if closing and before.count("think>") == before.startswith("<think>") and "<think>" not in after:
        return after  # the usual form, quickly
    kept: list[str] = []
    position, thinking = 0, False
    for tag in _THINK.finditer(completion):
        if tag.group() == "<think>":
            if not thinking:
                kept.append(completion[position : tag.start()])
            thinking = True
            continue
        if not thinking:
            kept.clear()
        position, thinking = tag.end(), False
    return None if thinking else "".join([*kept, completion[position:]])


def boxed(text: str) -> str:
    r"""The content of the last balanced `\boxed{...}`, or the text itself where there is none.

    >>> boxed(r"so \boxed{\frac{1}{2}}, no: \boxed{3"), boxed("no box")
    ('\\frac{1}{2}', 'no box')
    """
    boxes = _BOXED.findall(text) if "\\boxed" in text else ()
    return boxes[-1] if boxes else text


def ascii_forms(text: str) -> str:
    """The text with full-width letters, digits and marks, the minus sign and the Arabic separators as in ASCII.

    >>> ascii_forms("（Ａ）　−３．５")
    '(A) -3.5'
    """
    return text if text.isascii() else text.translate(_FORMS)


_OPEN = r"""(?:\\(?:boxed|text|textbf|mathrm|mathbf)\{|[(\[{"'“‘`$_\s])*+"""
_CLOSE = r"""[)\]}"'”’`$_\s.:,]*+"""
_JOINS = rf"[^\W_{SIGNS}\uac00-\ud7af]"  # form one word with the letter next to them; Hangul does not
_STARTS_WORD = rf"(?<!{_JOINS}.)(?<!\w['’-].)"  # these two follow a letter: is it alone, not part of x-A, A's or AB?
_ENDS_WORD = rf"(?!{_JOINS}|['’-]\w)"
_DENIALS = ("not ", "NOT ", "n't ", "n’t ", "不是")
_REFUSALS = (
    "sorry",
    "don't know",
    "do not know",
    *(
        f"{unable} {verb}"
        for unable in ("cannot", "can't", "can not", "unable to", "not able to")
        for verb in ("determine", "be determined", "answer", "be answered", "tell", "identify")
    ),
)


def choice_letter(text: str, letters: str = ascii_uppercase, options: Sequence[str] = ()) -> str | None:
    """The letter that an answer text chooses among `letters` (upper case), which stand for `options`; None if unclear.

    The order of evidence: the whole text is a letter; "the answer is X"; a text that starts with "X." and continues; a
    bracketed (X); the only stand-alone letter; the only option text. Within a level the last match wins.
    "A or B" and "not A" are not matches. A refusal is None, unless the text names its letter in one of the first two
    ways.

    >>> choice_letter("I first took (A), but it is (C).", "ABCD"), choice_letter("either (A) or (C)", "ABCD")
    ('C', None)
    >>> choice_letter("A red bus", "AB", ["car", "red bus"])
    'B'
    """
    patterns = _choice_patterns(letters)
    plain = ascii_forms(text).replace("*", "")  # markdown
    if whole := patterns["whole"].fullmatch(plain):
        return whole[1].upper()
    untied = patterns["tie"].sub(" ", plain)
    if any(word in untied for word in _DENIALS):
        plain = untied = patterns["denied"].sub(" ", untied)
    if stated := patterns["stated"].findall(untied):
        return stated[-1]
    if _refuses(text, options):
        return None
    if begun := patterns["begun"].match(untied):
        return begun[1]
    if bracketed := patterns["bracketed"].findall(untied):
        return bracketed[-1]
    alone = [letter for letter in letters if letter in plain and _alone(letter).search(plain)]
    return alone[0] if len(alone) == 1 else _named(text, letters, options)


@functools.lru_cache(maxsize=64)
def _choice_patterns(letters: str) -> dict[str, re.Pattern[str]]:
    letter = rf"[{letters}]{_ENDS_WORD}{_STARTS_WORD}"
    head = r"(?<!,.)(?<!,\s.)(?<!,[(\[].)(?<!,\s[(\[].)"  # from inside a list, a long one would cost its square
    first, more = rf"([{letters}]){_ENDS_WORD}{_STARTS_WORD}{head}[)\]]?", rf"(?:,\s?[(\[]?{letter}[)\]]?)"
    joined = r",?\s?(?:and|or|AND|OR|&|/)\s?(?:option )?[(\[]?"
    stating = r"(?:[Aa]nswer|ANSWER|[Oo]ption|OPTION|[Cc]hoice|CHOICE|答案)[_\s]*+(?:is|IS|:|[是为為])[:_\s]*+"
    patterns = {
        "whole": rf"{_OPEN}([{letters}{letters.lower()}]){_CLOSE}",
        "tie": rf"{first}(?:{more}{{0,25}}+{joined}(?!\1){letter}|{more}{{1,25}}+[\s.]*+\Z)",
        "denied": rf"(?:{'|'.join(map(str.strip, _DENIALS))})\s?(?:(?:option|choice|letter)\s)?[(\[]?{letter}",
        "stated": rf"{stating}(?:(?:option|choice|letter)\s++)?+{_OPEN}([{letters}]){_ENDS_WORD}",
        "begun": rf"""[_\s"'“]*+([{letters}])_*+(?:\.(?=[\s_])|[):])_*+\s*+\S""",
        "bracketed": rf"[(\[{{]\s*+([{letters}])\s*+[)\]}}]",
    }
    return {name: re.compile(pattern) for name, pattern in patterns.items()}


@functools.lru_cache(maxsize=64)
def _alone(letter: str) -> re.Pattern[str]:
    """The letter on its own; before a lower-case word, except and and or, A is the article and I the pronoun."""
    word = r"(?!\s++(?!(?:and|or)\b)[a-z])" if letter in "AI" else ""
    return re.compile(f"{letter}{_ENDS_WORD}{_STARTS_WORD}{word}")


def _refuses(text: str, options: Sequence[str]) -> bool:
    """Whether the text declines to answer, in words that are not those of an option."""
    plain, offered = text.casefold().replace("’", "'"), " ".join(options).casefold()
    return any(phrase in plain and phrase not in offered for phrase in _REFUSALS)


_WORD_START = re.compile(rf"(?<!{_JOINS})(?<!\d[.,])")  # 5 in 5.5 is not a whole word
_WORD_END = re.compile(rf"(?!{_JOINS}|[.,]\d)")


def _named(text: str, letters: str, options: Sequence[str]) -> str | None:
    """The letter of the only option whose text occurs, as whole words; inside a longer option it does not count."""
    if len(text) > MAX_NAMING:
        return None
    text = _folded(ascii_forms(text))
    phrases = [_folded(option).rstrip(".") for option in options]
    named = set()
    for phrase in sorted({phrase for phrase in phrases if phrase and phrase in text}, key=len, reverse=True):
        rest = _without(text, phrase)
        if rest != text:
            named.add(phrase)
        text = rest
    found = [letter for letter, phrase in zip(letters, phrases, strict=False) if phrase in named]
    return found[0] if len(found) == 1 else None


def _folded(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())


def _without(text: str, phrase: str) -> str:
    """`text` with a gap wherever `phrase` stands as whole words."""
    pieces, position, start = [], 0, text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        whole = _WORD_START.match(text, start) and _WORD_END.match(text, end)
        if whole:
            pieces.append(text[position:start])
            position = end
        start = text.find(phrase, end if whole else start + 1)
    return "\0".join([*pieces, text[position:]])


_SCIENTIFIC = re.compile(r"\s?(?:×|\*|x|\\times|\\cdot)\s?10\s?\^\s?\{?([-+]?\d++)\}?")
_GOES_ON = r"(?:(?<=\^)\{\s?[-+]?\d|\s?(?:\\[dtc]?frac\s?\{?\d|\\(?:sqrt|pi)(?![a-zA-Z])|[√π])|[⁰¹²³⁴-⁹¼-¾⅐-⅞])"
_NUMERIC = re.compile(
    r"[-+.\d](?<![\w.,/^{].)(?:(?<=\d)|\.?\d)[\d.,:/^]*+(?:[eE][-+]?\d++)?+(?:\s?\\?%)?+" + rf"{_GOES_ON}?+"
)
_GROUPS = re.compile(r"(?<=\d)(?:\\[, ]|[\xa0\u2009\u202f])(?=\d{3}(?!\d))")
_DECIMAL = re.compile(r"[-+]?+(?:\d++(?:\.\d++)?+|\.\d++)(?:[eE][-+]?\d++)?+")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})++(?:\.\d++)?+")


def number(text: str, *, thousands: bool = False, percent: bool = False) -> float | None:
    r"""The last number of a text (of its last box, if it has one); None if that is not a plain decimal number.

    `thousands` allows 1,200 for 1200, and `percent` allows 12% for 12; without them these are no numbers. Nor are 1/2,
    10^3, 2\sqrt{3}, 12:30 and numbers beyond the range of floats.

    >>> number("3 cats and 2 dogs are 5"), number("-1.5e3 cm"), number("1,200", thousands=True), number("1/2")
    (5.0, -1500.0, 1200.0, None)
    """
    tokens = _NUMERIC.findall(_SCIENTIFIC.sub(r"e\1", with_commas(ascii_forms(boxed(text)))))
    if not tokens:
        return None
    token = tokens[-1].rstrip(".,:/^")
    if token.endswith("%"):
        token = token.rstrip("\\% ") if percent else ""
    if thousands and _THOUSANDS.fullmatch(token):
        token = token.replace(",", "")
    return finite(token) if _DECIMAL.fullmatch(token) else None


def with_commas(text: str) -> str:
    r"""The text with commas between groups of digits that LaTeX or a blank that does not break sets apart.

    >>> with_commas(r"1{,}200 or 1\,200, not (1, 200)")
    '1,200 or 1,200, not (1, 200)'
    """
    if "\\" not in text and "{,}" not in text and text.isascii():
        return text
    return _GROUPS.sub(",", text.replace(r"\!", "").replace("{,}", ","))


def finite(text: str) -> float | None:
    """The number that a decimal text writes, None beyond the range of floats."""
    value = float(text)
    return value if math.isfinite(value) else None


def yes_no(text: str) -> bool | None:
    """True if the word yes occurs and no does not, False the other way round, else None.

    >>> yes_no("**Yes**, it is."), yes_no("No."), yes_no("yes and no"), yes_no("not at all")
    (True, False, None, None)
    """
    words = set(re.findall(r"[^\W_]+", ascii_forms(text).lower()))
    return "yes" in words if ("yes" in words) != ("no" in words) else None
