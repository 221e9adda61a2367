r"""Mathematics in a text as plain LaTeX: several values as a list, upright letters, numbers, and each value's unit.

What math-verify's own clean-up would cut off (`\mathrm{e}` as a unit) or break (`\sqrt(2)`) is settled before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rewards.parse.boxed import UPRIGHT_JOINING
from rewards.parse.extract import ascii_forms
from rewards.parse.units import END, UPRIGHT, Unit, split_unit

LOOKED_AT = 2000  # characters at the end of a text; answers stand there

_GROUPED = re.compile(r"(?<=\d)(?:,?\s?\\!\s?|\\[,;: ]\s?|\{, ?\}\s?|[\xa0\u2009\u202f])(?=\d{3}(?!\d))")
_BLANK_GROUPS = re.compile(r"(?<![\w.,^_}\\])(\d{1,3}(?: \d{3})+)(?![\d^_/]| \d)")
_DISPLAY = re.compile(
    r"(?<!\\)\\(?:displaystyle|textstyle|limits|nolimits|left|right|[bB]igg?[lrm]?|q?quad)(?![a-zA-Z])"
    r"|\\(?:hspace\*?|phantom|tag)\{[^{}]*\}|(?<!\\)\\(?:[,;:!]|(?=\s))|~|`|\\?[\"“”]"
)
_MARKDOWN = re.compile(r"(?<![\w)}])\*\*|\*\*(?![\w({\\-])")
_SPACED_OUT = re.compile(r"\\(?:quad|qquad)(?![a-zA-Z])")
_WRAPPED = re.compile(
    r"\\(?:mathbf|mathit|mathsf|mathtt|mathnormal|boldsymbol|bm|textit|textbf|mathbin|emph|underline|color\{\w+\})\s?\{([^{}]*)\}"
)
_SET_UPRIGHT = re.compile(
    r"\\(?:text|textrm|textnormal|textsf|mathrm|mathup|mbox|hbox|rm|operatorname|unit|si|SI)\*?\s?\{([^{}]*)\}|\{\\rm\s+([^{}]*)\}"
)
_NUMBER_SET = re.compile(rf"(?:\A|(?<=\\in)|(?<=\\in\s)){UPRIGHT}([RZNQ]){END}")
_CONSTANT = re.compile(rf"{UPRIGHT}\s?([eid])\s?{END}")
_NO_WORD = re.compile(rf"{UPRIGHT}([^a-zA-Z{UPRIGHT}{END}\u00c0-\u024f\u3040-\uffff°℃Ωµμ/]*){END}")
_FUNCTION = re.compile(
    rf"{UPRIGHT}\s?(sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|ln|log|lg|exp|max|min|gcd|lcm)\s?{END}"
)
_PERCENT = re.compile(
    rf"(?<=[\d$}}])\s?(?:\\?%|{UPRIGHT}?\s?"
    rf"(?:percent(?:age)?|per cent|pct|prozent|pour cent|por ciento|パーセント)(?![a-z])\s?{END}?)",
    re.IGNORECASE,
)
_JOINED = re.compile(
    rf"\s?,?\s?(?:{UPRIGHT}[\s,]*{UPRIGHT_JOINING}[\s,]*{END}|(?<![a-zA-Z\\])(?:and|or|und|oder|et|ou)(?![a-zA-Z])"
    rf"|(?<=\d)\s(?:y|o|e)\s(?=-?\d)|(?<=\d)(?:and|or)(?=[A-Z])|或者|以及|または|および|또는|[或和与及、と](?=[\s$\d\\(x-z−+-])|\\(?:lor|land|vee|wedge)(?![a-zA-Z])|[∨∧])\s?,?\s?"
)
_CASES = re.compile(
    r"(?:\\\{)?\\begin\{(?:cases|aligned|gathered)\}(.*?)\\end\{(?:cases|aligned|gathered)\}", re.DOTALL
)
_AMPERSAND = re.compile(r"(?<=\d)\s?\\?&\s?(?=-?\d)")
_COMMAS = re.compile(r"(?<!\s)\s*+,(?:\s*+,)++\s*+")
_ROOT = re.compile(r"(?:\\\\?)?sqrt\s?(?=[({\[\w])|√\s?(?=[({\w])|√(?=\\)")
_SYMBOLS = {
    **{
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": r"\div ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
    },
    **{
        "≠": r"\ne ",
        "±": r"\pm ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "≈": r"\approx ",
        "∶": ":",
    },
    **{
        "½": r"\frac{1}{2}",
        "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}",
        "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}",
        "θ": r"\theta ",
    },
    **{
        "α": r"\alpha ",
        "β": r"\beta ",
        "γ": r"\gamma ",
        "λ": r"\lambda ",
        "φ": r"\phi ",
        "ω": r"\omega ",
        "−": "-",
        "–": "-",
    },
    **{
        "ℝ": r"\mathbb{R}",
        "∛": r"\sqrt[3]",
        "￥": "¥",
        "⟨": "(",
        "⟩": ")",
        "…": "...",
        "∠": r"\angle ",
        "△": r"\triangle ",
    },
}
_SAME = {r"\langle": "(", r"\rangle": ")", r"\varnothing": r"\emptyset", r"\{\}": r"\emptyset"}
_NESTED_ROWS = re.compile(r"\[\s*\[[^\[\]]*\](?:\s*,\s*\[[^\[\]]*\])+\s*\]")
_TRANSLATED = str.maketrans(_SYMBOLS)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_EXPONENT = re.compile(r"(?<![\w.\\])(\d+(?:\.\d+)?|\.\d+)[eE]([-+]?\d+)(?![\w.])")
_BY_TEN = re.compile(r"(?<=\d)\s?x\s?(?=10\s?(?:\^|\*\*))")
_MIXED = re.compile(r"(?<![\d.^_/}\w])(\d+) (\d+)\s?/\s?(\d+)(?![\d./])|(?<![\d.^_/}\w])(\d+)\s?\\[dt]frac")
_RADIANS = re.compile(
    r"(\\?(?:sin|cos|tan|cot|sec|csc)\s?(?:\^\s?\{?\d\}?)?\s?[({]?\s?)(\d+(?:\.\d+)?)\s?(?:\^\s?\{?\s?\\circ\s?\}?|°)"
)
_BEFORE = re.compile(r"(?:\s|=|:|∴|\\(?:approx|therefore|Rightarrow|implies)(?![a-zA-Z]))++")
_AFTER = ("です", "である", "입니다", "이다", "。")
_REPEATED = re.compile(
    r"(?<!\d)(\d*+)\.(\d*+)(?:\\overline\s?\{(\d+)\}|\\dot\s?\{?(\d)\}?(?:(\d*)\\dot\s?\{?(\d)\}?)?)"
)
_POWER = re.compile(r"\^\s?([-+]\s?(?:\d+(?:\.\d+)?|[a-zA-Z])|\d{2,})")  # 10^-19 is no LaTeX, but said
_STARRED = re.compile(r"\*")
_ASCII_FUNCTION = re.compile(
    r"(?<![\\a-zA-Z])(arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|ln|log|exp|pi|theta|alpha|beta|infty)(?![a-zA-Z])"
)
_INFINITY = re.compile(r"(?<![\\a-zA-Z])(?:infinity|inf|oo)(?![a-zA-Z])")
_MONEY = re.compile(r"(?<![\\\w])\s?\\?[$€£¥](?=\s?-?\d)")
_BASE = re.compile(r"(?<=\d)_\s?(?:\{\s?(\w+)\s?\}|(\d+))\s*\Z")


@dataclass(frozen=True, slots=True)
class Part:
    """One value of an answer: its LaTeX without the unit, the unit, and the LaTeX with its letters."""

    body: str
    unit: Unit | None = None
    letters: str = ""


def plain(text: str) -> str:
    r"""A text with its mathematics in plain LaTeX: joining words are commas, upright e, i and d are letters.

    >>> plain(r"x=7\text{ and }y=\dfrac{3}{2}"), plain(r"2\,\mathrm{i}"), plain("1.6e-19"), plain("1 1/2")
    ('x=7, y=\\dfrac{3}{2}', '2 i', '1.6\\times 10^{-19}', '1\\frac{1}{2}')
    """
    text = ascii_forms(text).translate(_TRANSLATED)
    text = re.sub("[₀-₉]+", lambda found: "_{" + found[0].translate(_LOWERED) + "}", text)
    text = re.sub(r"[⁰¹²³⁴-⁹⁻⁺ⁿ]+", lambda found: "^{" + found[0].translate(_RAISED) + "}", text)
    if r"\\" in text and r"\begin" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)  # escaped twice
        text = text.replace(r"\\", ", ")  # a new row
    for _ in range(3):
        text = _WRAPPED.sub(r"\1", text)
    text = _GROUPED.sub("", _SPACED_OUT.sub(" , ", text) if "," not in text else text)
    text = _SET_UPRIGHT.sub(lambda found: f"{UPRIGHT}{found[1] if found[1] is not None else found[2]}{END}", text)
    text = _NUMBER_SET.sub(r" \\mathbb{\1}", text)
    text = _CONSTANT.sub(r"\1", _NO_WORD.sub(r" \1 ", text))
    text = _FUNCTION.sub(r"\\\1 ", text)
    text = _MARKDOWN.sub("", _DISPLAY.sub(" ", text))
    text = _PERCENT.sub(r"\\%", text)
    if r"\begin" in text:
        text = _CASES.sub(lambda found: found[1].replace(r"\\", ", ").replace("&", " "), text)
    else:
        text = _AMPERSAND.sub(", ", text)
    text = _COMMAS.sub(", ", joined(text))
    text = _BLANK_GROUPS.sub(lambda found: found[1].replace(" ", ""), text)
    text = _BY_TEN.sub(r"\\times ", text)
    text = _EXPONENT.sub(r"\1\\times 10^{\2}", text)
    text = _MIXED.sub(_mixed, text)
    text = _REPEATED.sub(_repeating, text)
    for name, same in _SAME.items():
        text = text.replace(name, same)
    text = _RADIANS.sub(r"\1(\2\\cdot\\pi/180)", text)
    text = _ASCII_FUNCTION.sub(r"\\\1 ", _INFINITY.sub(r"\\infty ", text))
    text = _bracketed(_ROOT.sub(lambda _: r"\sqrt", text), r"\sqrt")
    text = re.sub(r"\\sqrt\[(\d+)\](\w)", r"\\sqrt[\1]{\2}", _NESTED_ROWS.sub(_matrix, text))
    text = _POWER.sub(r"^{\1}", _bracketed(text.replace("**", "^"), "^"))
    return re.sub(r"\s+", " ", _STARRED.sub(r" \\cdot ", text)).strip()


def joined(text: str) -> str:
    """The text with commas for words that join values."""
    return _JOINED.sub(", ", text)


def _matrix(found: re.Match[str]) -> str:
    """[[1, 0], [0, 1]] as a matrix."""
    rows = re.findall(r"\[([^\[\]]*)\]", found[0])
    return r"\begin{bmatrix}" + r" \\ ".join(row.replace(",", "&") for row in rows) + r"\end{bmatrix}"


def _mixed(found: re.Match[str]) -> str:
    return rf"{found[1]}\frac{{{found[2]}}}{{{found[3]}}}" if found[1] else rf"{found[4]}\frac"


def _repeating(found: re.Match[str]) -> str:
    r"""0.1\overline{6} and 0.1\dot{6} as a fraction."""
    digits = found[3] or f"{found[4]}{found[5] or ''}{found[6] or ''}"
    whole = int(f"{found[1]}{found[2]}" or "0")
    return rf"\frac{{{int(f'{whole}{digits}') - whole}}}{{{(10 ** len(digits) - 1) * 10 ** len(found[2])}}}"


def _bracketed(text: str, operator: str) -> str:
    r"""The text with braces for the round brackets right behind an operator: `\sqrt(2)` and `x^(1/2)`."""
    start = text.find(operator)
    while start >= 0:
        opening = start + len(operator)
        while opening < len(text) and text[opening] == " ":
            opening += 1
        if opening < len(text) and text[opening] == "(" and (closing := _closing(text, opening)):
            text = f"{text[:start]}{operator}{{{text[opening + 1 : closing]}}}{text[closing + 1 :]}"
        start = text.find(operator, start + len(operator))
    return text


_OPENINGS, _CLOSINGS = "([{", ")]}"


def _closing(text: str, opening: int) -> int:
    """Where the bracket that opens at a place closes; 0 where it does not."""
    depth = 0
    for place in range(opening, len(text)):
        depth += (text[place] in _OPENINGS) - (text[place] in _CLOSINGS)
        if not depth:
            return place
    return 0


def parts(text: str, *, glued: bool = False) -> list[Part]:
    r"""The values of a plain LaTeX text, each without its unit: it is cut at commas and semicolons outside brackets.

    >>> [part.body for part in parts(r"\{1, (2, 3)\}")], [part.body for part in parts("1,200 cm")]
    (['1', '(2, 3)'], ['1,200'])
    """
    text = _trimmed(text)
    text = re.sub(r"\A[a-zA-Z]\s?\\in\s?(?=\\\{)", "", text)
    text = re.sub(r"\A\\\{\s?([a-zA-Z])\s?(?:\||\\mid(?![a-zA-Z])|:)(.*)\\\}\Z", r"\2", text)  # {x | x > 2}
    if braced := re.fullmatch(r"\\\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\\\}|\{([^{}]*,[^{}]*)\}", text):
        text = (braced[1] if braced[1] is not None else braced[2]).strip()
    pieces, start, depth = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign in _OPENINGS) - (sign in _CLOSINGS)
        if sign in ",;" and not depth and not _within_number(text, place):
            pieces.append(text[start:place])
            start = place + 1
    pieces.append(text[start:])
    return [_part(sign.strip(), glued) for piece in pieces for sign in _signs(piece)]


def _trimmed(text: str) -> str:
    """The text without an equals sign before it, and without punctuation and a copula behind it."""
    if before := _BEFORE.match(text):
        text = text[before.end() :]
    kept = text.rstrip(" \t\n.:,;")
    for copula in _AFTER:
        kept = kept.removesuffix(copula)
    return kept.rstrip()


def _signs(piece: str) -> list[str]:
    r"""Both values of a `\pm`."""
    if r"\pm" not in piece:
        return [piece]
    plus, minus = piece.replace(r"\pm", "+"), piece.replace(r"\pm", "-")
    return [re.sub(r"((?:\A|[=({,])\s*)\+", r"\1", plus.replace(r"\mp", "-")), minus.replace(r"\mp", "+")]


def _within_number(text: str, place: int) -> bool:
    return (
        text[place] == ","
        and bool(re.match(r"\d{3}(?!\d)", text[place + 1 : place + 5]))
        and text[place - 1 : place].isdigit()
    )


def _part(text: str, glued: bool) -> Part:
    based = _BASE.search(text)
    if based:
        base = based[1] or based[2]
        return Part(text[: based.start()], Unit(1.0, ((f"base {_BASES.get(base.lower(), base)}", 1),)))
    money = _MONEY.search(text)
    if money and not money.start():
        return Part(text[money.end() :].strip(), split_unit("1" + money[0].strip(" \\"))[1])
    text = _FUNCTION_OF_X.sub("y=", _OF_ANYTHING.sub(r"\1=", text))
    body, unit = split_unit(text, glued=glued)
    return Part(body, unit, text.replace(UPRIGHT, "").replace(END, ""))


_FUNCTION_OF_X = re.compile(r"\Af\s?\(x\)\s?=")
_OF_ANYTHING = re.compile(r"\A([a-zA-Z])\s?\([a-z]\)\s?=(?=[^a-zA-Z]*\Z)")  # f(x) = 3 is f(n) = 3
_BASES = dict(
    zip(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
        ["2", "3", "4", "5", "6", "7", "8", "9", "10"],
        strict=True,
    )
)


def restored(text: str) -> str:
    r"""The text with `\text{}` around what is set upright."""
    return text.replace(UPRIGHT, r"\text{").replace(END, "}")
