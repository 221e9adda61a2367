"""The answer of a completion: the text that counts, and in it a number, or yes or no.

Nothing is guessed: an unclear answer is None. Every pattern in this file and in `rewards.parse.regions` takes time
linear in the text, however it is baited: repeats are possessive (`*+`) or bounded.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata

CACHED = 4096  # completions whose answers are kept
SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and han: written without blanks, so each is a word of its own
_FORMS = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: " ", 0x2212: "-", 0x066B: ".", 0x066C: ","}

_THINK = re.compile(r"</?think>")
_ANSWER = re.compile(r"<answer>([^<]*+(?:<(?!/?answer>)[^<]*+)*+)</answer>")


def _braced(depth: int) -> str:
    """A pattern of text whose braces are balanced, nested up to `depth` deep."""
    return rf"[^{{}}]*+(?:\{{{_braced(depth - 1)}\}}[^{{}}]*+)*+" if depth else r"[^{}]*+"


BOXED = re.compile(rf"\\(?:boxed|fbox)\s*+\{{({_braced(5)})\}}")


@functools.lru_cache(maxsize=CACHED)  # every reward of a suite asks for it, one after the other
def answer_text(completion: str) -> str | None:
    """The text that is scored: after the thinking, inside the last answer pair, else the last box, else all of it.

    None where a `<think>` block is not closed.

    >>> answer_text("<think>A or B?</think> So <answer>(B)</answer>")
    '(B)'
    """
    text, tagged = _said(completion)
    return text if text is None or tagged else boxed(text).strip()


@functools.lru_cache(maxsize=CACHED)
def reply(completion: str) -> str | None:
    r"""As `answer_text`, with the words around a box, for readers that weigh them.

    >>> reply(r"<think>Hm.</think> \boxed{1} or \boxed{2}"), reply("<think>Hm.")
    ('\\boxed{1} or \\boxed{2}', None)
    """
    return _said(completion)[0]


def _said(completion: str) -> tuple[str | None, bool]:
    """What is said after the thinking, inside the last answer pair if there is one, and whether there is."""
    start, thought = completion.rfind("<answer>"), completion.rfind("</think>")
    if -1 < start > thought and completion.find("<think>", max(thought, 0)) < 0:  # the usual form, quickly
        end = completion.find("</answer>", start)
        if end > start:
            return completion[start + 8 : end].strip(), True
    text = without_thinking(completion)
    if text is None:
        return None, False
    answers = _ANSWER.findall(text)
    return (answers[-1] if answers else text).strip(), bool(answers)


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
    boxes = BOXED.findall(text) if "box" in text else ()
    return boxes[-1] if boxes else text


def ascii_forms(text: str) -> str:
    """The text with full-width letters, digits and marks, the minus sign and the Arabic separators as in ASCII.

    >>> ascii_forms("（Ａ）　−３．５")
    '(A) -3.5'
    """
    return text if text.isascii() else text.translate(_FORMS)


_ALIKE = str.maketrans(
    {
        **dict.fromkeys("‘’‛ʼ′", "'"),
        **dict.fromkeys("‐‑", "-"),
        **dict.fromkeys("\u200b\u200c\u2060\ufeff\u00ad"),
        **{"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl"},
    }
)

_BLANK = re.compile(
    r"[\u2002\u2003]|(?<!\d)[\xa0\u2009\u202f]|[\xa0\u2009\u202f](?!\d)"
)  # else it sets groups of digits apart


def composed(text: str) -> str:
    """The text with letters and their accents as one character each (NFC), and one form of what looks alike:
    apostrophes, hyphens, blanks, ligatures; what shows nothing goes.

    >>> composed("it’s co‑op"), composed("ﬁne\u200b")
    ("it's co-op", 'fine')
    """
    return text if text.isascii() else _BLANK.sub(" ", unicodedata.normalize("NFC", text).translate(_ALIKE))


_DRESS = re.compile(r"\\(?:text\w*+|math(?:rm|bf|it|sf|tt|up)|mbox|emph|operatorname|boldsymbol|bm)\s?\{([^{}]*)\}")
_ESCAPED = re.compile(r"\\([%$&#_{}])")
_SPACING = re.compile(r"\\[,;:! ]|\\q?quad(?![a-z])|(?<=\w)~(?=\w)")
_FORMULA = re.compile(r"\s*(?:\$\$?([^$]+)\$?\$|\\\((.+)\\\)|\\\[(.+)\\\])[\s.]*", re.DOTALL)
_QUOTED = re.compile(
    r"""\s*(?:\*\*(.+)\*\*|\*([^*]+)\*|__(.+)__|`([^`]+)`|"([^"]+)"|“([^”]+)”|«([^»]+)»|„([^“”]+)[“”]|「([^」]+)」|'([^']+)')\s*(\.?)\s*"""
)
_DRESSES = re.compile(r"""[\\$*`"“«„「~]|__|\A\s*'""")


def undressed(text: str) -> str:
    r"""A text without the dress of LaTeX and Markdown: text commands, escapes, formula signs, quotes around all of it.

    >>> undressed(r"$\text{Paris}$"), undressed(r"5\%"), undressed("1{,}200"), undressed("**Paris**."), undressed("$5")
    ('Paris', '5%', '1,200', 'Paris.', '$5')
    """
    if not _DRESSES.search(text) and "{,}" not in text:
        return text
    if found := _FORMULA.fullmatch(text):
        text = "".join(filter(None, found.groups()))
    if found := _QUOTED.fullmatch(text):
        text = "".join(filter(None, found.groups()))
    if "\\" in text or "{,}" in text or "~" in text:
        before = ""
        while before != text:  # from the inside out; each round makes the text shorter
            before, text = text, _DRESS.sub(r"\1", text)
        text = _ESCAPED.sub(r"\1", _SPACING.sub(" ", with_commas(text)))
    return text.strip()


_GROUPS = re.compile(r"(?<=\d)(?:\\[, ]|[\xa0\u2009\u202f])(?=\d{3}(?!\d))")


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


_YES = {"yeah", "yep", "yup", "ja", "jawohl", "oui", "sí", "sì", "sim", "да"}
_NO = {"nope", "nah", "nein", "nee", "non", "não", "нет"}
_SIGNED = re.compile(  # yes or no at the start, in languages without blanks, and the whole text "true"
    r"[\s\"*“「]*+(?:(?P<yes>是的|对的?(?=\W|\Z)|對的?(?=\W|\Z)|是(?=\W|\Z)|有(?=\W|\Z)|はい|ええ(?=\W|\Z)|예(?=\W|\Z)|네(?=\W|\Z)|true\W*+\Z)"
    r"|(?P<no>不是|没有|沒有|否|[不没沒](?=\W|\Z)|いいえ|いえ(?=\W|\Z)|違います|아니|false\W*+\Z))"
)


def yes_no(text: str) -> bool | None:
    """True if the word yes occurs and no does not, False the other way round, else None; so in other languages.

    >>> yes_no("**Yes**, it is."), yes_no("No."), yes_no("yes and no"), yes_no("not at all"), yes_no("Oui.")
    (True, False, None, None, True)
    """
    plain = ascii_forms(composed(text)).lower()
    words = set(re.findall(r"[^\W_]+", plain))
    said, denied = "yes" in words, "no" in words
    if not said and (found := _SIGNED.match(plain)):
        said, denied = bool(found["yes"]), bool(found["no"]) or denied
    said, denied = said or not words.isdisjoint(_YES), denied or not words.isdisjoint(_NO)
    return said if said != denied else None
