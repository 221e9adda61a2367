"""The option that a text chooses. Evidence is weighed, never guessed: an unclear answer is None.

Every pattern takes time linear in the text: repeats are possessive (`*+`) or bounded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from rewards.parse.boxed import last_boxes
from rewards.parse.extract import BOXED, SIGNS, ascii_forms, composed, undressed

LOOKED_AT = 8_000  # characters at the end of a text; answers stand there
MAX_NAMING = 20_000  # characters of an answer in which option texts are looked for; in longer ones it takes too long

_OPEN = r"""(?:\\(?:boxed|text|textbf|mathrm|mathbf)\{|[(\[{"'“‘«「`$_\s])*+"""
_CLOSE = r"""[)\]}"'”’»」`$_\s.:,!。]*+"""
_JOINS = rf"[^\W_{SIGNS}\uac00-\ud7af]"  # form one word with the letter next to them; Hangul does not
_STARTS_WORD = rf"(?<!{_JOINS}.)(?<!\w['’-].)"  # these two follow a letter: is it alone, not part of x-A, A's or AB?
_ENDS_WORD = rf"(?!{_JOINS}|['’-]\w)"

_NOUN = (
    r"(?:\b(?i:answers?|option|choice|antwort|lösung|réponse|respuesta|opción|risposta|resposta)\b|ответ|Ответ"
    r"|答案|正解|答え|回答|选项|选择|選択肢|정답|답)"
)
_ABOUT = (  # what may stand between "answer" and "is": a few words; not those of "answer choices:", before a list
    r"(?:\s(?:to|for|of|in|that|which|here|zu|auf|à|de|a)\s[^.:;\n]{0,40}?"
    r"|(?:\s(?!options\b|choices\b)[a-zà-ÿ]{3,12}){1,2}|应该?|應該?|可能|就)?"
)
_IS = r"(?:\s?(?:\b(?i:is|ist|est|es|é|è|would be|should be|must be|has to be)\b|[:=是为為はが은는→]|->))"
_FILLERS = (
    r"(?:(?i:the|option|choice|letter|answer|indeed|clearly|therefore|probably|simply|la|le|l['’]option|die|der|das|el|los|buchstabe"
    r"|lettre|letra|opción|correcte?a?)\b[\s:]*+|选项|选择|選択肢|[:_\s])*+"
)
_GOES_ON = (  # words behind an A or an I that is the letter, not the article or the pronoun
    r"(?:is|are|was|est|ist|es|et|und|y|e|or|and|but|because|since|as|so|than|rather|instead|over|not|which|who|if|when|while|for"
    r"|seems?|looks?|shows?|fits?|matches|makes?|must|should|would|could|can|cannot|can't|isn't|has|does|doesn't|describes?|says"
    r"|best|better|correct|right|wrong|true|false|weil|denn|da|car|parce|puisque|porque|pues|ya|with|from|in|on|at|by|to)\b"
)
_ARTICLE = rf"(?!\s++(?!{_GOES_ON})[a-z])"

_TAKES = (
    r"\b(?i:choose|chose|choosing|picks?|picked|select(?:ed)?|go(?:ing)? with|went with|vote for|prefer"
    r"|say|guess|opt(?:ed)? for"
    r"|take|wähle|nehme|choisis|elijo|escojo|escolho|scelgo)\s|[选選]择?ぶ?"
)
_SO = (
    r"\b(?i:it is|it's|it’s|it must be|it should be|it has to be|that is|that's|this is|must be|should be"
    r"|so|therefore|thus|hence"
    r"|c['’]est|es ist|das ist|also|daher|donc|por lo tanto|luego)\b|[所故因]?[以此应]|故|よって|したがって|따라서"
)
_RIGHT = (
    r"(?:correct\w?|right|best|better|true|richtig|vrai|juste|bonne|correct[oae]|verdader[oa]|cierto|likely|the answer"
    r"|the one|answer|die Antwort|la réponse|la respuesta)\b"
)
_WRONG = (
    r"(?:not|wrong|incorrect|false|out|eliminated|excluded|impossible|ruled|nicht|falsch|faux|fausse"
    r"|incorrect[oa]|fals[oa]|pas)\b"
)
_BE = r"(?:is|are|was|can be|ist|sind|est|sont|es|son|seems|looks|fits|makes|must be|should be|would be)"
_REFUSALS = (
    *("sorry", "don't know", "do not know", "无法确定", "无法判断", "不知道", "weiß nicht", "ne sais pas", "no sé"),
    *(
        f"{unable} {verb}"
        for unable in ("cannot", "can't", "can not", "unable to", "not able to")
        for verb in ("determine", "be determined", "answer", "be answered", "tell", "identify")
    ),
)


def choice_letter(text: str, letters: str = ascii_uppercase, options: Sequence[str] = ()) -> str | None:
    r"""The letter that an answer text chooses among `letters` (upper case), which stand for `options`; None if unclear.

    The order of evidence: a box that holds a letter or an option; the whole text is one; "the answer is X"; "X is
    correct", "I choose X"; a text that starts with "X." and continues; a bracketed (X); the only stand-alone letter;
    the only option text. Within a level the last match wins. "A or B", "not A" and "A is out" are not matches, nor is
    the article A. A refusal is None, unless the text names its letter in one of the first three ways.

    >>> choice_letter("I first took (A), but it is (C).", "ABCD"), choice_letter("either (A) or (C)", "ABCD")
    ('C', None)
    >>> choice_letter("A red bus", "AB", ["car", "red bus"]), choice_letter(r"\boxed{12}. Answer: D", "ABCD")
    ('B', 'D')
    """
    text = text[-LOOKED_AT:]
    if "box" in text and (box := last_boxes(text)):
        content, end = box
        letter, after = _boxed_letter(content, letters, options), BOXED.sub(" ", text[end:])
        if letter:
            return letter if _stated(after, letters, options) in (None, letter) else None
        stated = _follows(after, letters, options) or _stated(BOXED.sub(" ", text), letters, options)
        return stated or _option(content, letters, options, least=1)
    patterns = _patterns(letters)
    plain = ascii_forms(text).replace("*", "")  # markdown
    if whole := patterns["whole"].fullmatch(plain):
        return whole[1].upper()
    if letter := _option(plain, letters, options):
        return letter
    untied = _weighed(plain, letters)
    if letter := _last_stated(untied, letters, options):
        return letter
    if _refuses(text, options):
        return None
    if letter := _line(plain, letters) or _affirmed(untied, letters):
        return letter
    begun = patterns["begun"].match(untied)
    if begun and not patterns["listed"].search(untied, begun.end()):
        return begun[1]
    if bracketed := patterns["bracketed"].findall(untied):
        return bracketed[-1]
    return _only(untied, letters, options)


def _line(plain: str, letters: str) -> str | None:
    """The letter that is a line of its own, if only one is."""
    whole = _patterns(letters)["whole"]
    alone = {found[1].upper() for line in plain.split("\n") if len(line) < 40 and (found := whole.fullmatch(line))}
    return alone.pop() if len(alone) == 1 else None


def _affirmed(untied: str, letters: str) -> str | None:
    found = list(_patterns(letters)["affirmed"].finditer(untied))
    return (_letter(found[-1]) or "").upper() or None if found else None


def _follows(text: str, letters: str, options: Sequence[str]) -> str | None:
    """The letter that a text behind mathematics names; one that merely stands there may be a variable."""
    untied = _weighed(ascii_forms(text).replace("*", ""), letters)
    if letter := _last_stated(untied, letters, options) or _affirmed(untied, letters):
        return letter
    named = set(_patterns(letters)["named"].findall(untied)) or set(_patterns(letters)["bracketed"].findall(untied))
    return named.pop() if len(named) == 1 else None


def _letter(found: re.Match[str]) -> str | None:
    return next(filter(None, found.groups()), None)


def _weighed(plain: str, letters: str) -> str:
    """The text without letters that are tied ("A or B") or denied ("not A", "B is out")."""
    patterns = _patterns(letters)
    untied = patterns["tie"].sub(" ", plain)
    return patterns["denied"].sub(" ", untied) if _DENIES.search(untied) else untied


def _stated(text: str, letters: str, options: Sequence[str]) -> str | None:
    return _last_stated(_weighed(ascii_forms(text).replace("*", ""), letters), letters, options)


def _last_stated(untied: str, letters: str, options: Sequence[str]) -> str | None:
    """The letter, or the option text that an A begins, of the last "the answer is ..."."""
    stated = list(_patterns(letters)["stated"].finditer(untied))
    for found in reversed(stated):
        letter, place = _letter(found) or "", found.end()
        if letter in ("A", "I") and _IS_A_WORD.match(untied, place):
            line = untied[place - 1 : place + 500].split("\n", 1)[0]
            if named := _named(line, letters, options):
                return named
            continue
        return letter.upper()
    return None


def _boxed_letter(content: str, letters: str, options: Sequence[str]) -> str | None:
    """The letter of a box that holds one, alone or with its text, or an option; mathematics hold none."""
    plain = undressed(ascii_forms(content)).replace("*", "")
    if whole := _patterns(letters)["whole"].fullmatch(plain):
        return whole[1].upper()
    if letter := _option(plain, letters, options):
        return letter
    if begun := _patterns(letters)["boxed"].match(plain):
        place, text = letters.index(begun[1]), plain[begun.end() :]
        if begun[2] or begun[3] or (place < len(options) and _same(text, options[place])):
            return begun[1]
    return _stated(plain, letters, options)


@functools.lru_cache(maxsize=64)
def _patterns(letters: str) -> dict[str, re.Pattern[str]]:
    letter = rf"[{letters}]{_ENDS_WORD}{_STARTS_WORD}"
    either = f"{letters}{letters.lower()}"
    head = r"(?<!,.)(?<!,\s.)(?<!,[(\[].)(?<!,\s[(\[].)"  # from inside a list, a long one would cost its square
    first, more = rf"([{letters}]){_ENDS_WORD}{_STARTS_WORD}{head}[)\]]?", rf"(?:,\s?[(\[]?{letter}[)\]]?)"
    joined = (
        r"(?:,?\s?\b(?i:and|or|nor|und|oder|et|ou|y|o|e)\b\s|,?\s?[&/和或と、]\s?|,\s?(?i:and|or)\s)(?:(?i:option"
        r"|choice) )?[(\[]?"
    )
    one = rf"[(\[]?{letter}[)\]]?"  # of several that are joined, nothing is left
    denials = (
        rf"(?i:\bnot(?: be)?|n't(?: be)?|n’t(?: be)?|\bcannot be|不是|\bnicht|\bpas|\bneither|\bnor|\bno es"
        rf"|rules? out|ruled out|eliminat\w+"
        rf"|exclud\w+|reject\w*|\bdoubt\b|\b(?:any|every|all)\w* but|\bexcept(?: for)?|\bother than|apart from"
        rf"|rather than|instead of|\bthan|\bunlike|statt|plutôt que|au lieu d[e']|en lugar de|排除|而不是)"
        rf"\s?(?:(?i:the|la|le|el|die|der)\s)?(?:(?i:option|choice|letter|opción)s?\s)?{one}"
    )
    denied = (
        rf"{one}\s?(?:{_BE}\s(?:[a-z]+\s)?{_WRONG}|(?:isn't|isn’t|aren't|doesn't|doesn’t|can't|cannot|does not"
        rf"|do not|n['’]est|no es)\b"
        rf"|[是]?(?:不对|不正确|错|错误|不是|排除)|ではない|は(?:違|誤|間違)|は正しくない)"
    )
    patterns = {
        "whole": rf"(?:(?:{_NOUN})[\s:]*+)?{_OPEN}([{either}]){_CLOSE}",
        "tie": (
            rf"{first}(?:{more}{{0,25}}+{joined}(?!\1){letter}(?!ではな|は違|不|错)(?:{joined}{letter}){{0,25}}+"
            rf"|{more}{{1,25}}+[\s.]*+\Z)"
        ),
        "denied": f"{denials}|{denied}",
        "stated": (
            rf"{_NOUN}{_ABOUT}{_IS}{_FILLERS}{_OPEN}(?:([{letters}]){_ENDS_WORD}"
            rf"|([{letters.lower()}])(?={_CLOSE}(?:\n|\Z)|,?\s(?:because|since|weil|car|porque)\b))"
        ),
        "affirmed": (
            rf"([{letters}]){_ENDS_WORD}{_STARTS_WORD}[)\]]?\s?(?:{_BE}\s(?:[a-z]+\s){{0,3}}?{_RIGHT}|[是为]?(?:正确|对的|最佳)|が正し|が正解)"
            rf"|(?:{_TAKES}){_FILLERS}{_OPEN}([{letters}]){_ENDS_WORD}{_ARTICLE}"
            rf"|(?:{_SO})[\s,:]*+{_FILLERS}{_OPEN}([{letters}]){_ENDS_WORD}(?={_CLOSE}(?:\Z|[;,.)]|\n|(?i:because|since|as|weil|car|porque)\b))"
            rf"|\b(?i:option|choice|letter|opción)\s([{letters.lower()}])(?={_CLOSE}(?:\n|\Z))"
        ),
        "begun": rf"""[_\s"'“]*+([{letters}])_*+(?:\.(?=[\s_])|[):])_*+\s*+\S""",
        "named": rf"(?:\b(?i:option|choice|letter|opción|réponse|antwort)\s|选项?"
        rf"|選択肢){_OPEN}([{letters}]){_ENDS_WORD}",
        "boxed": rf"""[("\s]*+([{letters}])(?:([.):][)\]]?)\s|([):])|\s(?=\w))\s*+""",
        "listed": rf"(?:\n|[;,.]\s?|\s)[(\[]?[{letters}](?:\.\s|\)\s|:\s)",
        "bracketed": rf"[(\[{{]\s*+([{letters}])\s*+[)\]}}]",
    }
    return {name: re.compile(pattern) for name, pattern in patterns.items()}


_IS_A_WORD = re.compile(rf"\s++(?!{_GOES_ON})[a-z]")  # what follows the article A and the pronoun I
_DENIES = re.compile(
    r"(?i)\bnot\b|n['’]t|不|错|排除|违|ない|違|誤|\bnicht|\bpas\b|neither|\bnor\b|no es|rule|eliminat|exclud"
    r"|reject|rather|instead|than|doubt|\bbut\b|except|apart"
    r"|unlike|statt|plut|lieu|lugar|wrong|incorrect|false|\bout\b|impossible|falsch|faux|fals|cannot|do not"
)


def _only(text: str, letters: str, options: Sequence[str]) -> str | None:
    """The only letter that stands alone, else the only option text; not beside an A that may be an article."""
    masked = _masked(text, options)
    alone = [letter for letter in letters if letter in masked and _alone(letter).search(masked)]
    if len(alone) > 1:
        return None
    if not alone:
        return _named(text, letters, options)
    doubtful = alone[0] != "A" and "A" in letters and _DOUBTFUL.search(masked)
    return None if doubtful else alone[0]


_DOUBTFUL = re.compile(rf"A{_ENDS_WORD}{_STARTS_WORD}\s++(?!{_GOES_ON})[a-z]")


def _masked(text: str, options: Sequence[str]) -> str:
    """The text with a gap for option texts of several words that have a word of one letter ("vitamin C")."""
    for option in options:
        phrase = option.strip(" .")
        if " " not in phrase or not re.search(r"(?<!\w)[A-Za-z](?!\w)", phrase) or len(text) > MAX_NAMING:
            continue
        start = text.lower().find(phrase.lower())
        while start >= 0:
            text = f"{text[:start]}\0{text[start + len(phrase) :]}"
            start = text.lower().find(phrase.lower(), start)
    return text


@functools.lru_cache(maxsize=64)
def _alone(letter: str) -> re.Pattern[str]:
    """The letter on its own; A and I are words before a lower-case word that does not go on from a letter."""
    word = _ARTICLE if letter in "AI" else ""
    return re.compile(rf"(?<!\d\s){letter}{_ENDS_WORD}{_STARTS_WORD}{word}")


def _refuses(text: str, options: Sequence[str]) -> bool:
    """Whether the text declines to answer, in words that are not those of an option."""
    plain, offered = text.casefold().replace("’", "'"), " ".join(options).casefold()
    return any(phrase in plain and phrase not in offered for phrase in _REFUSALS)


_WORD_START = re.compile(rf"(?<!{_JOINS})(?<!\d[.,])")  # 5 in 5.5 is not a whole word
_WORD_END = re.compile(rf"(?!{_JOINS}|[.,]\d)")


def _option(text: str, letters: str, options: Sequence[str], least: int = 2) -> str | None:
    """The letter of the only option, of at least so many signs, that the whole text is, but for its article."""
    if len(text) > MAX_NAMING or not options:
        return None
    said = _bare(text)
    found = [letter for letter, option in zip(letters, _bare_options(tuple(options)), strict=False) if said == option]
    return found[0] if len(found) == 1 and len(said) >= least else None


def _same(a: str, b: str) -> bool:
    return _bare(a) == _bare(b)


_ARTICLES = re.compile(r"\A(?:an?|the|un[ea]?|le|la|les|el|los|las|der|die|das|eine?r?|o|os|il)\s(?=\S)")


@functools.lru_cache(maxsize=4096)
def _bare(text: str) -> str:
    return _ARTICLES.sub("", folded(undressed(ascii_forms(text))).strip("\"'“”`$. ")).rstrip(".!。 ")


@functools.lru_cache(maxsize=1024)
def _bare_options(options: tuple[str, ...]) -> list[str]:
    return [_bare(option) for option in options]


def _named(text: str, letters: str, options: Sequence[str]) -> str | None:
    """The letter of the only option whose text occurs, as whole words; inside a longer option it does not count."""
    if len(text) > MAX_NAMING:
        return None
    text = folded(ascii_forms(text))
    phrases = [folded(ascii_forms(option)).rstrip(".") for option in options]
    named = set()
    for phrase in sorted({phrase for phrase in phrases if phrase and phrase in text}, key=len, reverse=True):
        rest = _without(text, phrase)
        if rest != text:
            named.add(phrase)
        text = rest
    found = [letter for letter, phrase in zip(letters, phrases, strict=False) if phrase in named]
    return found[0] if len(found) == 1 else None


def folded(text: str) -> str:
    """A text in one case with single blanks, without underscores."""
    return " ".join(composed(text).casefold().replace("_", " ").split())


def _without(text: str, phrase: str) -> str:
    """`text` with a gap wherever `phrase` stands as whole words."""
    return "\0".join(_pieces(text, phrase))


def _pieces(text: str, phrase: str) -> Iterator[str]:
    position, start = 0, text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        whole = _WORD_START.match(text, start) and _WORD_END.match(text, end)
        if whole:
            yield text[position:start]
            position = end
        start = text.find(phrase, end if whole else start + 1)
    yield text[position:]
