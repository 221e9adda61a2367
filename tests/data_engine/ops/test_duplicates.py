"""Near duplicates: re-encoded pictures are found, unlike charts survive, and a question counts as well as a picture."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from benchmarks.leaks import FILMS, film_sample, filmed
from data_engine.operator import Dropped
from data_engine.ops.duplicates import exact_duplicates, near_duplicates
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.similar.image_hash import FRAMES, MediaIndex, fingerprint, pixel_hash
from data_engine.similar.minhash import TextIndex, sketch, sketch_from
from data_engine.sources.editing.edit_pairs import edit_pairs
from data_engine.sources.editing.edit_preferences import edit_preferences
from data_engine.sources.synthesis import digits_video
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(image: Image.Image, level: int = 6) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def photos(count: int) -> list[Image.Image]:
    """Stretches of two photographs, turned and mirrored."""
    draw, whole = random.Random(0), [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    made = []
    for number in range(count):
        x, y = draw.randrange(320), draw.randrange(213)
        piece = whole[number % 2].crop((x, y, x + 320, y + 213)).rotate(90 * draw.randrange(4), expand=True)
        made.append(piece.resize((640, 480)))
    return made


def chart(number: int) -> Image.Image:
    """Bars, a line or points on the same axes."""
    draw, image = random.Random(number), Image.new("RGB", (640, 480), "white")
    pen = ImageDraw.Draw(image)
    pen.line([(60, 20), (60, 440), (620, 440)], fill="black", width=2)
    heights = [440 - draw.randint(20, 400) for _ in range(10)]
    if number % 3 == 0:
        for place, height in enumerate(heights):
            pen.rectangle((80 + place * 54, height, 120 + place * 54, 440), fill=(50, 100, 200))
    elif number % 3 == 1:
        pen.line([(80 + place * 54, height) for place, height in enumerate(heights)], fill=(200, 50, 50), width=3)
    else:
        for height in heights:
            x = draw.randint(70, 610)
            pen.ellipse((x - 4, height - 4, x + 4, height + 4), fill="black")
    return image


def cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 40, height // 40, width - width // 40, height - height // 40))


def with_logo(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).rectangle((10, 10, 110, 60), fill=(255, 0, 0))
    return image


COPIES = {
    "quality 30": (lambda image: jpeg(image, 30), 0.97),
    "half the size": (lambda image: jpeg(image.resize((320, 240))), 0.97),
    "grey": (lambda image: jpeg(image.convert("L")), 0.99),
    "cropped": (lambda image: jpeg(cropped(image)), 0.9),
    "with a logo": (lambda image: jpeg(with_logo(image)), 0.85),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_of_a_photograph_are_recognised(kind: str) -> None:
    copy, recall = COPIES[kind]
    originals, index = photos(60), MediaIndex(1)
    for image in originals:
        index.add(fingerprint(Media("image", bytes=jpeg(image))))
    matches = [index.matches(fingerprint(Media("image", bytes=copy(image)))) for image in originals]
    assert np.mean([place in places for place, places in enumerate(matches)]) >= recall


def test_less_than_one_in_a_hundred_charts_is_taken_for_another() -> None:
    index, false, again = MediaIndex(1), 0, 0
    for number in range(500):
        media = fingerprint(Media("image", bytes=jpeg(chart(number))))
        false += bool(index.matches(media))
        place = index.add(media)
        if number < 50:
            again += place in index.matches(fingerprint(Media("image", bytes=jpeg(chart(number), 50))))
    assert false < 5
    assert again >= 45


@pytest.mark.parametrize("kind", FILMS)
def test_a_film_is_recognised_when_it_was_encoded_again_cut_or_covered(kind: str) -> None:
    films, index, hits = [filmed(photo, number) for number, photo in enumerate(photos(8))], MediaIndex(FRAMES), 0
    for frames in films:
        index.add(fingerprint(film_sample(frames).media[0]))
    for number, frames in enumerate(films):
        matches = index.matches(fingerprint(film_sample(frames, FILMS[kind]).media[0]))
        assert set(matches) <= {number}
        hits += bool(matches)
    assert hits >= 6


def test_films_of_one_place_in_which_other_things_happen_are_not_one() -> None:
    index, mistaken = MediaIndex(FRAMES), 0
    for sample in digits_video(n=60, side=96):
        media = fingerprint(sample.media[0])
        mistaken += bool(index.matches(media))
        index.add(media)
    assert mistaken <= 1


def test_plain_pictures_are_the_same_only_by_their_pixels() -> None:
    black, grey = Image.new("RGB", (64, 48)), Image.new("RGB", (64, 48), (90, 90, 90))
    index = MediaIndex(1)
    index.add(fingerprint(Media("image", bytes=jpeg(black))))
    assert index.matches(fingerprint(Media("image", bytes=jpeg(grey)))) == []
    assert pixel_hash(Media("image", bytes=jpeg(black))) == pixel_hash(Media("image", bytes=png(black)))
    assert pixel_hash(Media("image", bytes=jpeg(black))) != pixel_hash(Media("image", bytes=jpeg(grey)))


def test_the_same_pixels_in_another_file_are_a_duplicate_when_asked() -> None:
    picture = chart(1)
    samples = [ask("red?", png(picture)), ask("red?", png(picture, level=1)), ask("red?", png(chart(4)))]
    assert samples[0].media[0].sha256 != samples[1].media[0].sha256
    assert [isinstance(outcome, Dropped) for outcome in exact_duplicates(iter(samples))] == [False] * 3
    assert [isinstance(outcome, Dropped) for outcome in exact_duplicates(iter(samples), pixels=True)] == [
        False,
        True,
        False,
    ]


def test_sketches_estimate_the_common_triples_of_words() -> None:
    words = [f"w{number}" for number in range(60)]
    whole, exchanged = " ".join(words), " ".join([*words[:30], "other", *words[31:]])
    assert sketch(whole).jaccard(sketch(exchanged)) == pytest.approx(57 / 63, abs=0.08)
    assert sketch(whole).jaccard(sketch(" ".join(reversed(words)))) < 0.1
    assert sketch("A café, far-off!").jaccard(sketch("a CAFÉ far off")) == 1.0
    assert sketch("").jaccard(sketch("?")) == 1.0


def test_a_sketch_is_the_same_everywhere_and_can_be_written() -> None:
    assert sketch("where is the red bus").digest()[:3] == [3325041027, 3050625435, 3226191944]
    assert sketch_from(sketch("where is it?").__getstate__()).jaccard(sketch("where is it")) == 1.0
    with pytest.raises(InputError, match="write the file again by mmrl data index"):
        sketch_from(b"of an older version")


def jaccard(left: str, other: str) -> float:
    """The exact share of common word triples; texts are padded by two words in front, as for sketches."""
    a, b = (
        {*zip(words, words[1:], words[2:], strict=False)} for words in (f"_ _ {text}".split() for text in (left, other))
    )
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("least", [0.5, 0.8])
def test_pairs_that_are_found_are_those_of_the_exact_jaccard_index(least: float) -> None:
    """Of texts of 8 to 120 words, away from the threshold: all that are above, none that are below."""
    draw, index = random.Random(0), TextIndex(least)
    texts = [" ".join(f"w{draw.randrange(400)}" for _ in range(draw.randint(8, 120))) for _ in range(300)]
    for text in texts:
        index.add(sketch(text))
    right = wanted = wrong = 0
    for place, text in enumerate(texts):
        words = text.split()
        for _ in range(draw.randint(1, 3)):
            words[draw.randrange(len(words))] = "exchanged"
        share, places = jaccard(text, " ".join(words)), index.matches(sketch(" ".join(words)), least)
        wanted += share >= least + 0.1
        right += share >= least + 0.1 and place in places
        wrong += len(places) - (place in places) + (share < least - 0.15 and place in places)
    assert wanted >= 50
    assert right >= 0.98 * wanted
    assert wrong <= 1


def test_texts_are_compared_under_their_key_alone() -> None:
    index = TextIndex()
    index.add(index.sketch("where is the red bus", "a"))
    assert index.matches(index.sketch("where is the red bus", "a"), 0.8) == [0]
    assert index.matches(index.sketch("where is the red bus", "b"), 0.8) == []


def ask(question: str, *pictures: bytes, answer: bool = True, **more: Any) -> Sample:
    media = tuple(probe(Media("image", bytes=picture)) for picture in pictures)
    prompt = user_prompt(question, [item.kind for item in media])
    return with_id(Sample("", "s", "yesno", prompt, {"yesno": answer}, media, **more))


def test_a_near_duplicate_needs_the_picture_the_question_and_the_answer() -> None:
    first, other = photos(2)
    question = "Is there a large red bus next to the old stone bridge in this picture?"
    samples = [
        ask(question, jpeg(first)),
        ask(question.lower(), jpeg(first, 30)),  # the only duplicate
        ask(question, jpeg(other)),
        ask("Is it night?", jpeg(first)),
        ask(question, jpeg(first, 40), answer=False),
        ask("What is 12 + 3, is it more than 10?"),
        ask("What is 12 + 3, is it more than 20?"),
        ask("what is 12 + 3: is it more than 10"),  # and this one
    ]
    outcomes = list(near_duplicates(iter(samples)))
    assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Dropped)] == [1, 7]
    assert Counter(item.reason for item in outcomes if isinstance(item, Dropped)) == {"near_duplicate": 2}


@pytest.mark.parametrize("source", [edit_pairs, edit_preferences])
def test_pairs_keep_both_sides(source: Callable[..., Iterator[Sample]]) -> None:
    """Half of an edit looks like the whole edit."""
    made = (replace(one, media=tuple(probe(m, m.kind) for m in one.media)) for one in source(n=12, side=64))
    samples = list(map(with_id, made))
    assert list(near_duplicates(iter(samples))) == samples
