"""Time spans read from an answer text: JSON first, then brackets, clock times and words.

Every pattern takes time linear in the text: repeats are possessive (`*+`) or bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from math import isfinite
from typing import Any

from rewards.parse.extract import ascii_forms
from rewards.parse.regions import MAX_REGIONS, inner_values, json_regions

Span = tuple[float, float]

LOOKED_AT = 20_000  # characters at the end of a text; answers stand there
SPAN_KEYS = (
    *(("start", "end"), ("start_time", "end_time"), ("start_timestamp", "end_timestamp"), ("start_sec", "end_sec")),
    *(("start_second", "end_second"), ("start_seconds", "end_seconds"), ("starttime", "endtime"), ("begin", "end")),
    *(("t_start", "t_end"), ("start_s", "end_s"), ("from", "to")),
)

_NUMBER = r"[-+]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+"
_UNIT = r"(?:\s?(?:s(?:ec(?:ond)?[eos]*)?|sekunden?|segundos?|秒|초|初)(?![a-z]))?+>?+"
_TIME = r"<?(\d++(?:\.\d++)?+)"
_SECONDS = (
    r"(?![\d:]|\s?(?:m(?:s|in(?:ut[eos]*)?s?)?|h(?:(?:ou)?rs?)?|minuten|heures?|std|stunden?|horas?"
    r"|frames?|fps)\b|\s?[分帧時%])"
)
_FIRST_TIME = r"(\d(?<![a-zà-ÿ\d_.:]\d)\d*+(?:\.\d++)?+)"  # a digit first and then the look behind it: faster to search
_TO = (
    r"(?:(?:to|until|till|through|thru|up to|bis|à|jusqu'à|hasta|a|[-–—~〜]|->|→|到|至|から|에서"
    r"|부터)(?:\s?(?:seconds?|sekunde|seconde|segundo|第))?)"
)
_BRACKETED_SPAN = re.compile(rf"[\[(]\s*+({_NUMBER}){_UNIT}\s*+,\s*+({_NUMBER}){_UNIT}\s*+[\])]")
_CLOCK = re.compile(r"\d(?<![\d:.]\d)\d{0,2}(?::[0-5]\d){1,2}(?:\.\d++)?+(?![\d:])")
_THEN = (  # what may follow bounds without a unit; "2 to 5 people" are no times
    r"(?=\s*+(?:\Z|[^\w\s]|[^\x00-\x7f]|s(?:e[ckg]\w{0,6})?\b"
    r"|(?:and|in|of|on|at|or|then|during|when|while|as|where|which|is|are|the|video|approximately|und|et|y)\b))"
)
_RANGE = re.compile(rf"{_FIRST_TIME}{_UNIT}\s?{_TO}\s?{_TIME}{_SECONDS}{_THEN}")
_SURE = re.compile(  # the bounds have a unit, or a word for time before them
    rf"{_FIRST_TIME}{_UNIT}\s?{_TO}\s?{_TIME}\s?(?:s(?:ec(?:ond)?[eos]*)?|sekunden?|segundos?|秒|초)(?![a-z])"
    rf"|(?:from|von|vom|de|desde|du|从|從|at|during)\s?(?:seconds?\s)?{_FIRST_TIME}{_UNIT}\s?{_TO}\s?{_TIME}{_SECONDS}"
)
_BETWEEN = re.compile(rf"(?:between|zwischen|entre)\s{_TIME}{_UNIT}\s(?:and|und|et|y)\s{_TIME}{_SECONDS}{_THEN}")
_AT = (
    rf"(?!_?frame)[a-zé_]{{0,6}}(?:\stime)?\W{{0,3}}(?:(?:at|is|about|around|bei|nach|à|en|a|se"
    rf"|los)\s)*+{_TIME}{_SECONDS}"
)
_START = re.compile(rf"(?:start|begin|commence|début|empieza|comienza|inicia){_AT}")
_END = re.compile(rf"(?:end|finish|stop|se termine|finit|fin|termina|acaba){_AT}")
_HOURS = r"(?:h|hrs?|hours?|std|stunden?|heures?|horas?|小时|時間|시간)"
_MINUTES = r"(?:m|mins?|minutes?|minuten?|minutos?|分钟|分|분)"
_SPELT = re.compile(
    rf"(?<![\d.:])(?:(\d{{1,2}})\s?{_HOURS}\s?)?(\d{{1,3}})\s?{_MINUTES}\s?(?:and\s|und\s|et\s|y\s)?(\d{{1,2}}(?:\.\d{{1,6}})?)"
    r"\s?(?:s|secs?|seconds?|sekunden?|secondes?|segundos?|秒|초)(?![a-z])"
)
_MAY_BE_BETWEEN = re.compile(r"between|zwischen|entre")
_MAY_BE_FRAMES = re.compile(r"frame|image|bild|第|帧|フレーム")
_FRAMES = re.compile(r"\b(?:frames?|images?|bilder?)\s*#?\s*(?=\d)|(?:第|帧|フレーム)\s*(?=\d)")
_COMMA = re.compile(rf"(?<![\d.,\[(])(\d{{1,5}}),(\d{{1,3}})({_UNIT}\s?{_TO}\s?)(\d{{1,5}}),(\d{{1,3}})(?![\d,])")
_ANGLED = re.compile(r"<\s*(\d[\d.:]*\s?s?)\s*>")


def spans(text: str) -> list[Span]:
    """The (start, end) seconds of the time spans of an answer text in its order, reversed ends swapped.

    The first notation that occurs counts: JSON objects with one of SPAN_KEYS; [a, b]; clock times, two for a span,
    also as 1m12s; "between a and b"; "a - b", "a to b"; "starts at a ... ends at b"; in several languages. Ranges
    that have a unit or follow "from" go before others. Numbers of frames and bare minutes and hours are not read.

    >>> spans("from 1:05 to 1:10.5"), spans("It starts at 3 s and ends around 7.5 s.")
    ([(65.0, 70.5)], [(3.0, 7.5)])
    >>> spans("between 4.5 and 2 seconds"), spans("at 3 s"), spans("frames 72 to 90")
    ([(2.0, 4.5)], [], [])
    """
    text = ascii_forms(text[-LOOKED_AT:]).lower()
    if "{" in text and (found := json_regions(text, _spans_of)):
        return _ordered(found)
    if found := _pattern_spans(_BRACKETED_SPAN, text):
        return _ordered(found)
    text = _ANGLED.sub(r"\1", text) if "<" in text else text
    if found := _clock_spans(_SPELT.sub(_as_clock, text)):
        return _ordered(found)
    text = _plain(text)
    found = (
        (_pattern_spans(_BETWEEN, text) if _MAY_BE_BETWEEN.search(text) else [])
        or _pattern_spans(_SURE, text)
        or _pattern_spans(_RANGE, text)
        or _start_end_spans(text)
    )
    return _ordered(found)


def _ordered(found: list[Span]) -> list[Span]:
    return [(min(span), max(span)) for span in found]


def _plain(text: str) -> str:
    """The text without numbers of frames, and with decimal points for commas that both bounds have."""
    if "," in text:
        text = _COMMA.sub(r"\1.\2\3\4.\5", text)
    return _FRAMES.sub("frame_", text) if _MAY_BE_FRAMES.search(text) else text


def _as_clock(found: re.Match[str]) -> str:
    hours, minutes, seconds = int(found[1] or 0), int(found[2]), float(found[3])
    total = hours * 3600 + minutes * 60 + seconds
    return f"{int(total // 3600)}:{int(total % 3600 // 60):02}:{total % 60:06.3f}" + ("" if total < 360000 else "x")


def _spans_of(value: Any) -> Iterator[Span]:
    nodes = [value]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            key = next((key for key in SPAN_KEYS if key[0] in node and key[1] in node), None)
            if key:
                yield from _span(_seconds(node[key[0]]), _seconds(node[key[1]]))
        nodes.extend(inner_values(node))


def _seconds(value: Any) -> float | None:
    """A JSON value as seconds: a number, "12.5", "12.5 s", "1m12s" or "1:12.5"."""
    if isinstance(value, str):
        value = _SPELT.sub(_as_clock, value.strip())
        if _CLOCK.fullmatch(value):
            return _clock_seconds(value)
        plain = re.fullmatch(rf"{_TIME}{_UNIT}", value)
        return float(plain[1]) if plain else None
    return value if isinstance(value, float) else None


def _clock_spans(text: str) -> list[Span]:
    if ":" not in text:
        return []
    clocks = list(islice(_CLOCK.finditer(text), 2 * MAX_REGIONS))
    if len(clocks) == 1:  # the other bound may be in seconds: "45 s to 1:12"
        return _pattern_spans(_RANGE, _CLOCK.sub(lambda clock: str(_clock_seconds(clock[0])), text))
    times = [_clock_seconds(clock.group()) for clock in clocks]
    return list(zip(times[::2], times[1::2], strict=False))


def _clock_seconds(clock: str) -> float:
    return sum(float(part) * 60**place for place, part in enumerate(reversed(clock.split(":"))))


def _pattern_spans(pattern: re.Pattern[str], text: str) -> list[Span]:
    matches = islice(pattern.finditer(text), MAX_REGIONS)
    bounds = ([float(bound) for bound in match.groups() if bound is not None] for match in matches)
    return [span for start, end in bounds for span in _span(start, end)]


def _start_end_spans(text: str) -> list[Span]:
    found: list[Span] = []
    position = 0
    while (
        len(found) < MAX_REGIONS
        and (start := _START.search(text, position))
        and (end := _END.search(text, start.end()))
    ):
        found += _span(float(start[1]), float(end[1]))
        position = end.end()
    return found


def _span(start: float | None, end: float | None) -> list[Span]:
    """The span in a list, or an empty list where an end is missing or beyond the range of floats."""
    if start is None or end is None or not isfinite(start) or not isfinite(end):
        return []
    return [(start, end)]
