"""Filters on pictures and texts one can judge by eye."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from PIL import Image, ImageFilter

from data_engine.dataset.tables import stats_row
from data_engine.measure.languages import language
from data_engine.operator import Dropped
from data_engine.ops.filters import max_aspect, max_vision_tokens, min_entropy, min_sharpness, option_count, text_length
from data_engine.ops.select import cap_media
from data_engine.recipe import Recipe, plan
from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.core.vision import VisionBudget
from tests.data_engine.ops.test_duplicates import ask, jpeg, photos
from tests.data_engine.ops.test_operators import ask as about
from tests.data_engine.ops.test_operators import ends


def why(outcome: Any) -> str | None:
    """The reason of a sample that was dropped, None for one that was kept."""
    assert isinstance(outcome, Sample | Dropped)
    return outcome.reason if isinstance(outcome, Dropped) else None


def test_uniform_and_blurred_pictures_are_dropped() -> None:
    photo = photos(1)[0]
    sharp, blurred = ask("?", jpeg(photo)), ask("?", jpeg(photo.filter(ImageFilter.GaussianBlur(12))))
    grey = ask("?", jpeg(Image.new("RGB", (640, 480), "grey")))
    assert [why(min_sharpness(picture)) for picture in (sharp, blurred)] == [None, "blurred"]
    assert [why(min_entropy(picture)) for picture in (sharp, grey)] == [None, "too_uniform"]


def test_shapes_lengths_and_options_have_limits() -> None:
    strip = Sample("", "s", "yesno", [], {"yesno": True}, (Media("image", width=900, height=100),))
    assert why(max_aspect(strip, ratio=9)) is None
    assert why(max_aspect(strip, ratio=8.9)) == "too_long_and_thin"
    assert why(text_length(about("one two three"), min_words=4)) == "text_too_short"
    assert why(text_length(about("one two three"), max_words=2)) == "text_too_long"
    assert why(text_length(about("這是什麼"), min_words=4)) is None
    choice = about("?", task="choice", answer={"choice": "A", "options": ["a", "b", "c"]})
    assert why(option_count(choice, least=4)) == "too_few_options"
    assert why(option_count(choice, most=2)) == "too_many_options"
    assert why(option_count(about("?"))) is None


def test_vision_tokens_are_counted_as_the_model_will_see_them() -> None:
    picture = Sample("", "s", "yesno", [], {"yesno": True}, (Media("image", width=280, height=560),))
    assert why(max_vision_tokens(picture, tokens=200)) is None
    assert why(max_vision_tokens(picture, tokens=199)) == "too_many_vision_tokens"
    assert why(max_vision_tokens(picture, tokens=100, budget=VisionBudget(max_pixels=100 * 28 * 28))) is None


def test_what_a_model_cannot_see_is_dropped_and_another_budget_measures_again() -> None:
    strip = Media("image", width=6000, height=28)
    frame = Media("video", width=96, height=96, num_frames=1, fps=8.0, duration=0.125)
    for media in (strip, frame):
        sample = Sample("", "s", "yesno", [], {"yesno": True}, (media,))
        assert why(max_vision_tokens(sample, tokens=2000, factor=32)) == "no_vision_size"
    picture = Sample("", "s", "yesno", [], {"yesno": True}, (Media("image", width=280, height=560),))
    small = max_vision_tokens(picture, tokens=199, budget=VisionBudget(max_pixels=100 * 28 * 28))
    assert isinstance(small, Sample)
    assert why(max_vision_tokens(small, tokens=199)) == "too_many_vision_tokens"


def test_measures_that_a_source_wrote_and_are_no_numbers_are_taken_again() -> None:
    for measures in ({"words": "many", "sharpness": None}, [1, 2], {"words": True}):
        outcome = text_length(about("one two three", meta={"measures": measures}))
        assert isinstance(outcome, Sample)
        assert outcome.meta["measures"] == {"words": 3.0}
        assert stats_row(outcome, "train")["words"] == 3.0


@pytest.mark.parametrize("code", ["english", "EN"])
def test_an_undetectable_language_is_refused(code: str) -> None:
    operators = [{"fn": "validate"}, {"fn": "in_language", "args": {"languages": ["de", code]}}]
    recipe = {"sources": [{"fn": "tests.support.lab:numbers", "args": {"n": 1}}], "operators": operators}
    with pytest.raises(InputError, match=rf"no language {code}; known: ar, bg, bn, cs"):
        plan(Recipe.model_validate(recipe))


SHORT = {
    "en": ("What color is the car?", "How many dogs are there?", "Describe the image.", "Is it raining?"),
    "de": ("Welche Farbe hat das Auto?", "Trägt der Mann einen Hut?", "Beschreibe das Bild.", "Zähle die Äpfel."),
    "fr": ("De quelle couleur est la voiture ?", "Décris l'image.", "Compte les pommes.", "Que tient le garçon ?"),
    "es": ("¿De qué color es el coche?", "¿Cuántos perros hay?", "Describe la imagen.", "¿Está lloviendo?"),
    "it": ("Di che colore è la macchina?", "Quanti cani ci sono?", "Descrivi l'immagine.", "Conta le mele."),
    "pt": ("De que cor é o carro?", "O homem usa um chapéu?", "Descreva a imagem.", "Conte as maçãs."),
    "nl": ("Welke kleur heeft de auto?", "Waar zit de kat?", "Beschrijf de afbeelding.", "Welke vorm is groter?"),
    "pl": ("Ile psów jest na zdjęciu?", "Czy mężczyzna nosi kapelusz?"),
    "sv": ("Vilken färg har bilen?", "Hur många hundar finns det?"),
    "tr": ("Araba ne renk?", "Kaç köpek var?"),
    "vi": ("Chiếc xe màu gì?", "Có bao nhiêu con chó?"),
    "uk": ("Якого кольору машина?", "Скільки собак на зображенні?"),
    "zh": ("图中有几只狗", "这辆车是什么颜色？"),
}


def test_the_language_of_short_questions_is_known_and_that_of_formulas_is_open() -> None:
    named = [(language(text), code) for code, texts in SHORT.items() for text in texts]
    assert all(name in (code, None) for name, code in named)
    assert sum(name == code for name, code in named) >= len(named) - 2
    for text in ("3 + 4 = ?", "x^2 + y^2 = 1", "ABC", "PQ = 12 cm, RS = 5 cm", "", "def f(x): return x + 1"):
        assert language(text) is None, text


def test_a_picture_is_used_only_so_often() -> None:
    samples = [about(f"{number}?", "a" if number < 5 else f"p{number}") for number in range(8)]
    kept, dropped = ends(cap_media(iter(samples), n=2))
    assert Counter(sample.media[0].sha256 for sample in kept) == {"a": 2, "p5": 1, "p6": 1, "p7": 1}
    assert dropped == {"media_used_up": 3}
