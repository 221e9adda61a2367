r"""Boxes of an answer (`\boxed{}`): the last one, its neighbours, and a final statement behind them."""

from __future__ import annotations

import re

from rewards.parse.extract import BOXED

LONGEST_GAP = 70  # characters between boxes that belong together

JOINING = r"and|or|und|oder|et|ou|または|および|と|和|或者|或|与|以及|及|、|또는|와|과"
_STATED = re.compile(
    r"(?:final answer|the answer|答案|antwort|réponse|respuesta)\b[^.\n$]{0,40}?(?:\b(?:is|ist|est|es)\b"
    r"|[:是为])[\s*:]*(?P<rest>\$?-?[\d\\(\[{][^\n]*+)",
    re.IGNORECASE,
)
UPRIGHT_JOINING = rf"(?:{JOINING}|y|o|e|или|и)"
_CUT_BOX = re.compile(r"\\boxed\s?\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\Z")  # of a gold that a pattern cut out
_GAP = re.compile(  # between boxes that say one thing together
    rf"(?:[^\w\\]{{0,10}}+(?:\\[()\[\],;:! ]|\\q?quad(?![a-z])|\\(?:text"
    rf"|mathrm)\s?\{{[^{{}}]{{0,40}}\b{UPRIGHT_JOINING}\b[\s,]*\}}"
    rf"|(?:[a-z]{{3,20}}\s)?(?<![a-zA-Z])(?:{JOINING})(?![a-zA-Z])|[a-zA-Z](?:_\{{?\w\}}?)?\s?=))*+[^\w\\]{{0,10}}"
)


def boxes(text: str, *, gold: bool = False) -> str | None:
    r"""What the last box says, with the boxes next to it: neighbours with other contents are one list.

    >>> boxes(r"first \boxed{7}, hence \boxed{1} and $\boxed{2}$"), boxes("none")
    ('1, 2', None)
    """
    found = list(BOXED.finditer(text)) if "\\boxed" in text or "\\fbox" in text else []
    if not found:
        cut = _CUT_BOX.search(text) if gold else None
        return cut[1] if cut else None
    if stated := _STATED.search(text, found[-1].end()):
        return statement(stated["rest"])
    return _joined(text, found)


def last_boxes(text: str) -> tuple[str, int] | None:
    """What the last box and its neighbours say, and where it ends."""
    found = list(BOXED.finditer(text))
    return (_joined(text, found), found[-1].end()) if found else None


def _joined(text: str, found: list[re.Match[str]]) -> str:
    said = [found[-1][1].strip()]
    for before, after in zip(found[-2::-1], found[:0:-1], strict=True):
        gap = text[before.end() : min(after.start(), before.end() + LONGEST_GAP)]
        if len(gap) == LONGEST_GAP or not _GAP.fullmatch(gap.rstrip("\\")):
            break
        if before[1].strip() not in said:
            said.insert(0, before[1].strip())
    return ", ".join(said)


def statement(rest: str) -> str:
    """What a sentence says that began before `rest`, up to its end."""
    return _SENTENCE_END.split(rest, maxsplit=1)[0].strip().strip("*")


_SENTENCE_END = re.compile(r"(?<=\D)\.\s|\.\s+(?=[A-Z])|\.\s*\Z|。")
