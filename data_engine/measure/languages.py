"""In which language a short text is written: by its script, and where that is Latin by its commonest words."""

from __future__ import annotations

import re
from collections import Counter

from data_engine.words import words

SCRIPTS = {  # scripts that one language has for its own; the first that holds a third of the text counts
    "ja": "\u3040-\u30ff",
    "ko": "\uac00-\ud7af",
    "zh": "\u3400-\u9fff",
    "ru": "\u0400-\u04ff",
    "ar": "\u0600-\u06ff",
    "hi": "\u0900-\u097f",
    "th": "\u0e00-\u0e7f",
    "el": "\u0370-\u03ff",
    "he": "\u0590-\u05ff",
}
LEAST = {"ja": 0.1}  # Japanese is written with Chinese characters in between
COMMON = {
    "en": "the of and is are in on a an this that what which how many where who does do it to with there for was you",
    "de": "der die das und ist sind in auf ein eine dies was welche wie viele wo wer es zu mit gibt für im nicht den",
    "fr": "le la les et est sont dans sur un une ce que quel quelle combien où qui il de des avec pour du y pas",
    "es": "el la los las y es son en sobre un una este que cuál qué cuántos dónde quién hay de con para del no se",
    "it": "il la i gli le e è sono in su un una questo che quale quanti dove chi c di con per del non si ci",
    "pt": "o a os as e é são em sobre um uma este que qual quantos onde quem há de com para do da não se no na",
    "nl": "de het een en is zijn in op dit dat wat welke hoe veel waar wie er van met voor niet te om aan",
}
LANGUAGES = (*SCRIPTS, *COMMON)  # those that are told apart
_VOTES = {language: frozenset(said.split()) for language, said in COMMON.items()}
_LETTER = re.compile(r"[^\W\d_]")
_SCRIPTS = {language: re.compile(f"[{letters}]") for language, letters in SCRIPTS.items()}


def language(text: str) -> str | None:
    """The two-letter code of the language, or None where the text does not tell: it has too few words, or is no prose.

    >>> language("How many dogs are there in the picture?"), language("Wie viele Hunde sind zu sehen?")
    ('en', 'de')
    >>> language("写真に犬は何匹いますか"), language("图中有几只狗"), language("3 + 4 = ?")
    ('ja', 'zh', None)
    """
    letters = len(_LETTER.findall(text))
    for name, script in _SCRIPTS.items():
        if letters and len(script.findall(text)) >= LEAST.get(name, 1 / 3) * letters:
            return name
    said = words(text)
    votes = Counter({name: sum(word in common for word in said) for name, common in _VOTES.items()})
    (first, most), (_, second) = votes.most_common(2)
    return first if most > second else None
