"""Questions about pictures, answered by people: the JSON files of VQAv2 and OCR-VQA."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Literal
from urllib.parse import urlsplit

from data_engine.sources.base import Items, RowError, existing, existing_file
from data_engine.sources.json_lines import json_entries
from data_engine.sources.row_format import Row, Rows, samples_of
from data_engine.sources.row_media import IMAGES
from mmrl.core.config import InputError

AGREED = 3  # annotators who gave an answer that counts as right in full
NUMBER = re.compile(r"\d+$")  # of an image, at the end of the name of its file
SPLITS = {"1": "train", "2": "val", "3": "test"}  # of OCR-VQA
Split = Literal["train", "val", "test"]


def vqa_v2(*, questions: str, annotations: str, images: str, root: Path) -> Items:
    """The questions of VQAv2 (`questions`), each with its ten answers in `annotations`, joined by their `question_id`.

    The gold texts are `multiple_choice_answer` and what at least three annotators said; all answers are kept in
    `answers`. The picture is the file of the folder whose name ends in the number of the image.
    """
    asked = existing_file(root, questions, "file of questions")
    answered = existing_file(root, annotations, "file of annotations")
    folder = existing(root, images, "image folder")

    def rows() -> Iterator[Row]:
        golds = {_id(row): row for row in json_entries(answered, annotations, "annotations")}
        entries, pictures = list(json_entries(asked, questions, "questions")), _numbered(folder)
        if golds.keys().isdisjoint(map(_id, entries)):
            raise InputError(f"no question of {asked} has an annotation in {answered}; take two files of one split")
        for row in entries:
            yield _question(row, golds.pop(_id(row), None), pictures)
        for row in golds.values():
            yield row._replace(error=row.error or RowError("no_question", "no question has this question_id"))

    return samples_of(rows(), Rows(task="text"), folder, "vqa_v2")


def ocr_vqa(*, path: str, images: str, root: Path, split: Split | None = None) -> Items:
    """The questions of OCR-VQA: a JSON object of covers by id, each with the lists `questions` and `answers`.

    The picture of a cover has its id and the suffix of its `imageURL` as its name. `split` reads one of the parts that
    the file names by 1, 2 and 3; by default all are read, and the name is kept in `meta.split`.
    """
    file, folder = existing_file(root, path, "OCR-VQA file"), existing(root, images, "image folder")

    def rows() -> Iterator[Row]:
        found = False
        for row in json_entries(file, path):
            found |= isinstance(row.values, Mapping) and "questions" in row.values
            yield from [row] if row.error else _cover(row, split)
        if not found:
            right = "an object of covers by id, each with imageURL, questions, answers and split"
            raise InputError(f"{file} is no file of OCR-VQA: {right}")

    return samples_of(rows(), Rows(task="text"), folder, "ocr_vqa")


def _id(row: Row) -> str:
    return repr(row.values.get("question_id")) if isinstance(row.values, Mapping) else row.where


def _question(row: Row, gold: Row | None, pictures: Mapping[int, list[str]]) -> Row:
    try:
        if gold is None:
            raise row.error or RowError("no_answer", "no annotation has this question_id")
        if error := row.error or gold.error:
            raise error
        return _joined(row, gold, pictures)
    except RowError as error:
        return row._replace(error=error)


def _joined(row: Row, gold: Row, pictures: Mapping[int, list[str]]) -> Row:
    image, said = row.values.get("image_id"), gold.values.get("answers")
    if gold.values.get("image_id") != image:
        raise RowError("bad_row", f"the question is about image {image!r}, its annotation about another")
    said = [one.get("answer") if isinstance(one, Mapping) else one for one in said] if isinstance(said, list) else []
    most = gold.values.get("multiple_choice_answer")
    if not all(isinstance(one, str) for one in [most, *said]):
        raise RowError("no_answer", "an annotation has multiple_choice_answer and answers, which are texts")
    agreed = [text for text, count in Counter(said).most_common() if count >= AGREED]
    files = pictures.get(image, []) if isinstance(image, int) else []
    if len(files) != 1:
        found = f"several files have it: {', '.join(files)}" if files else "no file has it"
        raise RowError("missing", f"the name of a picture ends in its number {image!r}; {found}")
    meta = {name: gold.values[name] for name in ("question_type", "answer_type") if gold.values.get(name)}
    answer = {"text": list(dict.fromkeys([most, *agreed])), "answers": said}
    return Row(row.where, {"image": files[0], "question": row.values.get("question"), "answer": answer, "meta": meta})


def _numbered(folder: Path) -> dict[int, list[str]]:
    """number of an image -> the pictures below the folder whose name ends in it."""
    found = defaultdict[int, list[str]](list)
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower()[1:] in IMAGES and (number := NUMBER.search(file.stem)):
            found[int(number.group())].append(file.relative_to(folder).as_posix())
    return found


def _cover(row: Row, split: Split | None) -> Iterator[Row]:
    values = row.values if isinstance(row.values, Mapping) else {}
    questions, answers = values.get("questions"), values.get("answers")
    if not isinstance(questions, list) or not isinstance(answers, list) or len(questions) != len(answers):
        yield row._replace(error=RowError("bad_row", "a cover needs as many questions as answers, two lists"))
        return
    part = SPLITS.get(repr(values.get("split")))
    if part is None:
        why = f"split is 1 (train), 2 (val) or 3 (test), got {values.get('split')!r:.40}"
        yield row._replace(error=RowError("bad_row", why))
    elif split in (None, part):
        picture = f"{values.get('id')}{PurePath(urlsplit(str(values.get('imageURL', ''))).path).suffix or '.jpg'}"
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True), start=1):
            told = {"question": question, "answer": answer, "meta": {"split": part}}
            yield Row(f"{row.where}#{number}", {"image": picture, **told})
