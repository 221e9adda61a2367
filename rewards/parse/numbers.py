"""The number that a text says, in digits or in words; an unclear one is None.

Every pattern takes time linear in the text: repeats are possessive (`*+`) or bounded.
"""

from __future__ import annotations

import re

from rewards.parse.extract import ascii_forms, boxed, finite, with_commas
from rewards.parse.number_words import in_words

LOOKED_AT = 4_000  # characters at the end of a text; answers stand there

_PLAIN = re.compile(r"\s*+([-+]?+\d{1,300}(?:\.\d{1,300})?+)\.?\s*+", re.ASCII)
POWER_OF_TEN = re.compile(
    r"\s?(?:×|\*|x|\\times|\\cdot|·)\s?10\s?(?:(?:\^|\*\*)\s?\{?([-+]?\d++)\}?|([⁻⁺]?[⁰¹²³⁴-⁹]+))"
)
_GOES_ON = r"(?:(?<=\^)\{\s?[-+]?\d|\s?(?:\\[dtc]?frac\s?\{?\d|\\(?:sqrt|pi)(?![a-zA-Z])|[√π])|[⁰¹²³⁴-⁹¼-¾⅐-⅞])"
_NUMERIC = re.compile(
    r"[-+.\d](?<![a-zA-Z\d_.,/^{\u00c0-\u024f].)(?:(?<=\d)|\.?\d)[\d.,:/^]*+(?:[eE][-+]?\d++)?+(?:\s?\\?%)?+"
    + rf"{_GOES_ON}?+"
)
_DECIMAL = re.compile(r"[-+]?+(?:\d++(?:\.\d++)?+|\.\d++)(?:[eE][-+]?\d++)?+")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})++(?:\.\d++)?+")
_CONTINENTAL = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})++,\d++|[-+]?\d{1,3}(?:\.\d{3}){2,}+")  # 1.234,5 and 1.234.567
_COMMA = re.compile(r"[-+]?\d{1,9},\d{1,2}")

_SCALES = {
    **dict.fromkeys(("hundred", "百"), 1e2),
    **dict.fromkeys(("k", "thousand", "tausend", "mille", "mil", "千"), 1e3),
    **dict.fromkeys(("万", "萬", "만"), 1e4),
    **dict.fromkeys(
        ("m", "mn", "million", "millions", "mio", "millionen", "millón", "millones", "milhões", "百万"), 1e6
    ),
    **dict.fromkeys(("千万",), 1e7),
    **dict.fromkeys(("億", "亿", "억"), 1e8),
    **dict.fromkeys(
        ("b", "bn", "billion", "billions", "mrd", "milliarde", "milliarden", "milliard", "milliards", "十亿"), 1e9
    ),
    **dict.fromkeys(("trillion", "trillions", "万亿", "兆"), 1e12),
}
_SCALE_WORDS = "|".join(
    sorted((re.escape(word) for word in _SCALES if len(word) > 2 or not word.isascii()), key=len, reverse=True)
)
_SCALED = re.compile(
    rf"(?<![\w.])([-+]?\d{{1,15}}(?:,\d{{3}})*+(?:[.,]\d{{1,15}})?+)(?:(k|K|M|mn|B|bn)(?![\w²³/])"
    rf"|[ -]?(?i:({_SCALE_WORDS}))\.?(?![a-zà-ÿ克米瓦卡焦帕]))"
)
_CONFIDENCE = re.compile(
    r"\W{0,3}\b(?:confiden\w{1,4}|certainty|probability|sicherheit|confiance|confianza)\b\W{0,3}(?:level|score|is|of|von|de)?\W{0,4}[\d.]++\s?%?"
    r"|\W{0,3}(?:置信度|信心|確信度|把握)\W{0,4}[\d.]++\s?%?|(?<![\d.])[\d.]++\s?%\s(?:sure|certain|confident|sicher)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:[(,;]\s?)?(?:\b(?:not|nicht|pas|rather than|instead of|statt|plutôt que)\s|n['’]t\s|而不是"
    r"|不是)[-+]?\d[\d.,]*+(?<![.,])\s?\)?",
    re.IGNORECASE,
)
_MINUS = re.compile(
    r"(?<![\d)]\s)(?:\b(?:minus|negative|moins|menos|meno)\s|负|負|マイナス\s?|마이너스\s?)(?=\d)", re.IGNORECASE
)
_AND_HALF = re.compile(r"(?<=\d)\s?(?:and a half|et demie?|einhalb|y medi[oa]|个半|個半)(?!\w)", re.IGNORECASE)
_BOUND = re.compile(  # of the last number: a guess from one side
    r"(?:[<>≤≥]=?|\b(?:more|less|fewer|greater|higher|lower) than|\b(?:at least|at most|up to|over|under|above|below)"
    r"|(?:mehr|weniger) als|mindestens|höchstens|(?:plus|moins|más|menos) de|au moins|au plus|al menos"
    r"|至少|至多|超过|不到)"
    r"\s?[$€£¥]?[-+]?\d[\d.,]*+[^\d<>]{0,30}\Z"
    r"|\d\+[^\w]{0,8}\Z|\d\s?(?:or (?:more|less|fewer|higher|lower)\b|以上|以下|多)[^\d]{0,30}\Z",
    re.IGNORECASE,
)
_COMPOUND = re.compile(  # 1 hour 30 minutes, 5 feet 3 inches: two numbers that are one
    r"\d\s?(?:hours?|hrs?|h|minutes?|mins?|m|feet|foot|ft|stunden?|std|heures?|horas?|小时|分钟?)\.?,?\s(?:and\s|und\s|et\s|y\s)?\d+\s?"
    r"(?:minutes?|mins?|seconds?|secs?|s|m|inch(?:es)?|in|minuten?|sekunden?|minutos?|segundos?|分钟?|秒)(?![a-z])",
    re.IGNORECASE,
)
_OUT_OF = re.compile(
    r"(?<![\d.,])(\d[\d.,]*+)\s(?:out of|of the|of these|of all|of|sur|von|de)\s\d[\d.,]*+(?!\s?%)", re.IGNORECASE
)
_DASH = re.compile(r"(?<![\w)\]])(?<![\d)]\s)–(?=\d)")
_PARTS = re.compile(
    r"\d\s(?:and (?:a|an|one|three)\s)?(?:thirds?|quarters?|fourths?|fifths?|tenths?|halves|dozens?)\b", re.IGNORECASE
)
_BLANK_GROUPS = re.compile(r"(?<![\d.,'’])(?<!\d )(\d{1,3})((?:[ ’']\d{3})+)(?![\d'’]| \d)")
_EQUAL_TO_SUM = re.compile(
    r"((?<![\d.,])[-+]?\d[\d.,]*+)\s?=\s?[-+(]*\d[\d.,]*+(?:\s?[-+*/×·÷]\s?[(]*\d[\d.,]*+[)]*){1,20}[\s.$)]*\Z"
)
_SUM = re.compile(r"\d[)\s]{0,3}(?:[+*×·÷]|\s[-/]|\s?\\(?:times|div|cdot))\s?\(?\d[\d.,]*+[\s.$)%]*\Z")
_RANGE = re.compile(  # at the end
    r"(?<![\d.,-])\d[\d.,]{0,20}+%?\s?(?:[-–~〜]|to|or|bis|oder|ou|à|a|o|或|到|至|から|between)\s?\d[\d.,]{0,20}+[^\d=]{0,30}\Z"
    r"|(?:between|zwischen|entre)\s[-\d.,]{1,20}\s(?:and|und|et|y)\s[-\d.,]{1,20}[^\d=]{0,30}\Z",
    re.IGNORECASE,
)
_UNUSUAL = re.compile(  # what some of the patterns above need: most texts are plain
    rf"[=<>≤≥+*×·÷~〜–或到至超不以半多]|[-/]\s|\d-\d|\d\s?(?:to|or|bis|oder|ou|à|a|o)\s?\d|between|zwischen|entre|から"
    rf"|\d[ ’']\d|\d(?:k|K|M|mn|B|bn)\b|\d\s?[a-z小分]+\.?,?\s(?:\w+\s)?\d|\b(?:than|or|over|under|above|below|up to)\b"
    rf"|not\b|n['’]t\b|nicht|\bpas\b|rather|instead|statt|plutôt|minus|negative|moins|menos|meno|负|負|マイナス|마이너스"
    rf"|least|most|mindest|höchst|als|plus|más|hal[fv]|demi|medi[oa]|third|quarter|fourth|fifth|tenth|dozen"
    rf"|\b(?:confid|confia|certain|prob|sicher|sure)|置信|信心|確信|把握|\\(?:times|div|cdot)|(?:{_SCALE_WORDS})",
    re.IGNORECASE,
)


def number(text: str, *, thousands: bool = False, percent: bool = False, scales: bool = True) -> float | None:
    r"""The last number of a text (of its last box, if it has one); None if that is not a plain decimal number.

    `thousands` allows 1,200, 1 200 and 1'200 for 1200, and 3,5 for 3.5; `percent` allows 12% for 12; without them these
    are no numbers. Nor are 1/2, 10^3, 2\sqrt{3}, 12:30, 3 + 4, "3 to 4", "at least 3", "2 thirds", "1 hour 30 minutes"
    and what no float can hold. `scales`: "1.2M", "5 million" and 3万 are taken times their scale. A number that is
    denied ("not 13") and a confidence do not count, of "293 = 256+37" the sum does not, and of "7 out of 10" the 10. A
    text without digits may have one number in words.

    >>> number("3 cats and 2 dogs are 5"), number("-1.5e3 cm"), number("1,200", thousands=True), number("1/2")
    (5.0, -1500.0, 1200.0, None)
    >>> number("minus 3"), number("12 (not 13)"), number("5. Confidence: 90%"), number("There are five dogs.")
    (-3.0, 12.0, 5.0, 5.0)
    """
    text = boxed(text)
    if plain := _PLAIN.fullmatch(text):
        return finite(plain[1])
    text = _DASH.sub("-", POWER_OF_TEN.sub(as_exponent, with_commas(ascii_forms(text[-LOOKED_AT:]))))
    if _UNUSUAL.search(text):
        text = _settled(text, thousands, scales)
        if _RANGE.search(text) or _BOUND.search(text) or (_SUM.search(text) and "=" not in text):
            return None  # it is not decided, or not worked out
        if _PARTS.search(text) or _COMPOUND.search(text):
            return None  # a part of something, or of several parts
    tokens = _NUMERIC.findall(text)
    if not tokens:
        return None if any(sign.isdigit() for sign in text) else in_words(text)
    token = tokens[-1].rstrip(".,:/^")
    if token.endswith("%"):
        token = token.rstrip("\\% ") if percent else ""
    if thousands:
        token = _without_groups(token, len(tokens))
    return finite(token) if _DECIMAL.fullmatch(token) else None


def is_scale(unit: object) -> bool:
    """Whether a unit is the scale of a number: "million", "K"."""
    return isinstance(unit, str) and unit.strip().lower() in _SCALES


def as_exponent(found: re.Match[str]) -> str:
    """The power of ten of a match of POWER_OF_TEN as e-notation."""
    return "e" + (found[1] or found[2].translate(_RAISED))


_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")


def _without_groups(token: str, count: int) -> str:
    if _THOUSANDS.fullmatch(token):
        return token.replace(",", "")
    if _CONTINENTAL.fullmatch(token):
        return token.replace(".", "").replace(",", ".")
    return token.replace(",", ".") if count == 1 and _COMMA.fullmatch(token) else token


def _settled(text: str, thousands: bool, scales: bool) -> str:
    """The text without what does not count, and with signs, groups and scales in digits."""
    text = _DENIED.sub(" ", _CONFIDENCE.sub(" ", text))
    text = _AND_HALF.sub(".5", _MINUS.sub("-", text))
    if thousands:
        text = _BLANK_GROUPS.sub(lambda found: found[1] + re.sub(r"\D", "", found[2]), text)
    if scales:
        text = _SCALED.sub(_times_scale, text)
    text = _OUT_OF.sub(r"\1", text)
    equal = _EQUAL_TO_SUM.search(text)
    return text[: equal.end(1)] if equal else text


def _times_scale(found: re.Match[str]) -> str:
    scale = _SCALES[(found[2] or found[3]).lower()]
    digits = found[1].replace(",", ".") if _COMMA.fullmatch(found[1]) else found[1].replace(",", "")
    return repr(float(digits) * scale)
