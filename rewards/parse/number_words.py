"""Numbers in words: "twenty-one", "fünf", "二十一"."""

from __future__ import annotations

import re


def _numbered(words: str, first: int = 0, step: int = 1) -> dict[str, int]:
    return {word: first + step * place for place, word in enumerate(words.split())}


_SMALL = {
    **_numbered("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"),
    **_numbered("sixteen seventeen eighteen nineteen", 16),
    **_numbered("null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn"),
    **_numbered("zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze"),
    **_numbered("cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince"),
    **_numbered("하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉 열", 1),
    **dict.fromkeys(("none", "keine", "aucun", "aucune", "ninguno", "ninguna"), 0),
    **dict.fromkeys(("une", "ein", "eine", "una"), 1),
}
_TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
_TENS |= {"zwanzig": 20, "vingt": 20, "veinte": 20}
_POWERS = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_VALUES = _SMALL | _TENS
_AND_HALF = re.compile(r"(?:\band a half|\bet demie?|einhalb|\by medi[oa]|[个個]半)(?!\w)")
_PARTS = re.compile(  # of something; and times, dozens, decimals in Chinese characters
    rf"\b(?:an?|{'|'.join(_VALUES)})[ -](?:half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|eighths?|tenths?)\b"
    r"|\bhalf an?\b|\b(?:quarter|half) (?:to|past)\b|\bdozens?\b|分之|一半|半[个個]"
    r"|[零一二两三四五六七八九十][点點][零一二三四五六七八九]"
)
_OF_OTHER_MEANINGS = {  # they count where they are the whole text
    *("one", "un", "une", "uno", "una", "ein", "eine", "eins", "null", "once", "elf", "none", "keine", "acht"),
}
_ONE = re.compile(
    r"(?<!the )(?<!this )(?<!that )(?<!which )(?<!each )(?<!every )(?<!another )\bone (?!of|is|on|in|that"
    r"|with|who|or|and|way|can|thing)[a-z]"
)
_HAN_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_HAN_POWERS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "萬": 10_000}
_HAN = re.compile(r"[零〇一二两兩三四五六七八九十百千万萬]{1,12}")
_HAN_WORDS = re.compile(
    r"一共|一起|一样|一些|一下|一直|一定|一般|第[一二三四五六七八九十]|统一|唯一|万一|三角|四边|一致"
)
_MINUS = re.compile(r"\b(?:minus|negative|moins|menos)\s+[^\W\d]|负|負|マイナス")
_LONGEST = 400  # characters; longer texts are read for digits only


def in_words(text: str) -> float | None:
    """The only number that a text without digits writes in words; None if there are several, or none.

    >>> in_words("twenty-one"), in_words("一共有五只"), in_words("two cats and three dogs"), in_words("the one in red")
    (21.0, 5.0, None, None)
    """
    if len(text) > _LONGEST:
        return None
    plain = text.casefold().replace("*", "")
    plain, half = _AND_HALF.subn("", plain)
    words = re.findall(r"[^\W\d_]+", plain.replace("-", " "))
    if len(words) == 1 and words[0] in _SMALL:
        return _SMALL[words[0]] + half / 2
    if half > 1 or _PARTS.search(plain) or _is_open(words):
        return None
    found = _word_runs(words, plain)
    runs = [_han(run) for run in _HAN.findall(_HAN_WORDS.sub(" ", plain))]
    found += [value for value in runs if value != 1] or runs[:1]
    sign = -1.0 if _MINUS.search(plain) else 1.0
    return sign * (found[0] + half / 2) if len(set(found)) == 1 else None


def _is_open(words: list[str]) -> bool:
    """Whether two numbers are offered: "one or two"."""
    between = zip(words, words[1:], words[2:], strict=False)
    return any(word in ("or", "to", "oder", "bis", "ou", "o") and {a, b} <= _VALUES.keys() for a, word, b in between)


def _word_runs(words: list[str], plain: str) -> list[int]:
    runs: list[int] = []
    total, current, open_run, before = 0, 0, False, ""
    for word in [*words, ""]:
        one = word == "one" and (open_run or bool(_ONE.search(plain)))
        if word in _POWERS and not open_run and before in ("a", "an"):
            current, open_run = 1, True
        before = word
        value = _TENS.get(word, _SMALL.get(word) if word not in _OF_OTHER_MEANINGS or one else None)
        if value is not None:
            current, open_run = current + value, True
        elif word in _POWERS and open_run:
            power = _POWERS[word]
            total, current = (total, current * power) if power == 100 else (total + current * power, 0)
        elif word != "and" or not (open_run and current >= 100):
            runs += [total + current] if open_run else []
            total, current, open_run = 0, 0, False
    return runs


def _han(signs: str) -> int:
    """The value of a number in Chinese characters."""
    total, section, digit = 0, 0, 0
    for sign in signs:
        if sign in _HAN_DIGITS:
            digit = digit * 10 + _HAN_DIGITS[sign] if digit and total + section == 0 else _HAN_DIGITS[sign]
        elif sign in "万萬":
            total, section, digit = (section + digit) * 10_000, 0, 0
        else:
            section, digit = section + (digit or 1) * _HAN_POWERS[sign], 0
    return total + section + digit
