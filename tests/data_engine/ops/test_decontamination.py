"""Benchmarks stay out: what was planted is found by what it shares, and the index holds no question and no picture."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.engine.pipeline import run
from data_engine.media.source_ids import source_ids
from data_engine.operator import Dropped
from data_engine.ops.decontaminate import decontaminate
from data_engine.recipe import Recipe
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.similar.index import LeakIndex, write_index
from data_engine.similar.report import leakage
from data_engine.sources.synthesis import mp4
from mmrl.commands.data import app
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from tests.data_engine.ops.test_duplicates import ask, chart, jpeg, photos, with_logo
from tests.support.benchmarks.choice_rows import REFCOCO
from tests.support.browser import BROWSER, opened

QUESTION = "Is there a large red bus next to the old stone bridge in this picture?"
OTHER = "Does the woman at the left of the table hold a yellow cup in her hand?"


def benchmark() -> list[Sample]:
    return [ask(f"{QUESTION} ({number})", jpeg(image)) for number, image in enumerate(photos(4))]


def planted() -> dict[str, Sample]:
    """Training samples by what they share with the first sample of the benchmark."""
    first, fresh = photos(1)[0], photos(12)[-1]
    return {
        "source_id": benchmark()[0],
        "both": ask(QUESTION.replace("large ", "") + " (0)", jpeg(first, 30)),
        "image": ask(OTHER, jpeg(with_logo(first))),
        "text": ask(f"{QUESTION} (0)", jpeg(fresh)),
        "clean": ask(OTHER, jpeg(chart(3))),
    }


def index_file(folder: Path) -> Path:
    write_index(benchmark(), "held_out", folder / "held_out.parquet")
    return folder / "held_out.parquet"


@pytest.mark.parametrize("kind", ["source_id", "both", "image", "text", "clean"])
def test_a_leak_is_named_by_its_evidence(tmp_path: Path, kind: str) -> None:
    leaks = LeakIndex([index_file(tmp_path)]).leaks(planted()[kind], text=0.5)
    first = [leak for leak in leaks if leak.id == benchmark()[0].id]
    assert [leak.by for leak in first] == ([] if kind == "clean" else [kind])


def test_leaks_are_dropped_or_flagged_by_the_evidence_asked_for(tmp_path: Path) -> None:
    paths, samples = [index_file(tmp_path)], planted()
    ends = Counter(
        outcome.reason if isinstance(outcome, Dropped) else "kept"
        for outcome in (decontaminate(sample, against=paths) for sample in samples.values())
    )
    assert ends == {f"leak_of_held_out_by_{kind}": 1 for kind in ("source_id", "both", "image")} | {"kept": 2}
    assert decontaminate(samples["image"], against=paths, by=("both",)) == samples["image"]
    for kind in ("source_id", "both", "image", "text"):  # the benchmark's own sample leaks by all of them
        leaked = decontaminate(samples["source_id"], against=paths, by=(kind,))
        assert leaked == Dropped(samples["source_id"], f"leak_of_held_out_by_{kind}")
    flagged = decontaminate(samples["image"], against=paths, action="flag")
    leak = {"benchmark": "held_out", "id": benchmark()[0].id, "by": "image"}
    assert flagged == replace(samples["image"], meta={"leaks": [leak]})
    assert asdict(LeakIndex(paths).leaks(samples["image"], text=0.5)[0]) == leak


def test_the_index_holds_no_question(tmp_path: Path) -> None:
    content = index_file(tmp_path).read_bytes()
    assert b"stone bridge" not in content
    assert content == index_file(tmp_path).read_bytes()  # and the same benchmark gives the same bytes


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_text("notes")
    with pytest.raises(InputError, match=r"notes\.parquet cannot be read as a fingerprint file"):
        LeakIndex([tmp_path / "notes.parquet"])


def test_the_commands_write_an_index_and_report_each_benchmark(tmp_path: Path) -> None:
    write_dataset(benchmark(), tmp_path / "exam")
    write_dataset(planted().values(), tmp_path / "train")
    made = CliRunner().invoke(app, ["index", str(tmp_path / "exam"), "--out", str(tmp_path)])
    assert made.exit_code == 0, made.output
    command = ["leaks", str(tmp_path / "train"), "--against", str(tmp_path / "exam.parquet"), "--benchmark"]
    command += [str(tmp_path / "exam"), "--json", str(tmp_path / "l.json"), "--html", str(tmp_path / "l.html")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (counts,) = json.loads((tmp_path / "l.json").read_text())
    assert (counts["benchmark"], counts["samples"]) == ("exam", 4)
    assert sum(counts["found"].values()) <= 4
    first = [pair["by"] for pair in counts["pairs"] if pair["benchmark_sample"] == benchmark()[0].id]
    assert sorted(first) == ["both", "image", "source_id", "text"]
    page = (tmp_path / "l.html").read_text()
    assert page.count("data:image/") >= 8
    if BROWSER:  # the text of a pair is below its pictures, not in a column one letter wide
        assert opened(tmp_path / "l.html", tmp_path / "profile").narrowest > 150
    assert "Is there a large red bus" in page
    assert "not at hand" not in page


def test_two_benchmarks_of_one_name_are_not_written_over_each_other(tmp_path: Path) -> None:
    for place in ("one", "other"):
        write_dataset(benchmark(), tmp_path / place / "test")
    command = ["index", str(tmp_path / "one" / "test"), str(tmp_path / "other" / "test"), "--out", str(tmp_path)]
    with pytest.raises(InputError, match=r"one/test and .*other/test would both be written to a file called test"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (tmp_path / "test.parquet").exists()


def test_where_the_report_of_leaks_goes_is_made_or_refused_first(tmp_path: Path) -> None:
    write_dataset(planted().values(), tmp_path / "train")
    command = ["leaks", str(tmp_path / "train"), "--against", str(index_file(tmp_path)), "--json"]
    made = CliRunner().invoke(app, [*command, str(tmp_path / "new" / "l.json")])
    assert made.exit_code == 0, made.output
    assert (tmp_path / "new" / "l.json").is_file()
    for place, why in ((tmp_path, "is a folder"), (tmp_path / "new" / "l.json" / "l.json", "cannot be written")):
        with pytest.raises(InputError, match=why):
            CliRunner().invoke(app, [*command, str(place)], catch_exceptions=False)


def test_leaks_are_counted_once_a_benchmark_sample_and_by_source(tmp_path: Path) -> None:
    samples = planted()
    other = replace(samples["image"], source="web")
    (report,) = leakage([samples["both"], samples["image"], other], LeakIndex([index_file(tmp_path)]), text=0.5)
    assert report.found["both"] == 1
    assert report.sources["web"] == {"image": 1}
    assert len([pair for pair in report.pairs if pair.leak.id == benchmark()[0].id]) == 3


def test_pictures_of_one_public_dataset_are_known_by_name(tmp_path: Path) -> None:
    """The same COCO picture under its names of 2014 and 2017, as files and in meta, however it was drawn over."""
    pq.write_table(pa.Table.from_pylist(REFCOCO), tmp_path / "val.parquet")
    made = CliRunner().invoke(app, ["index", f"refcoco_val={tmp_path / 'val.parquet'}", "--out", str(tmp_path)])
    assert made.exit_code == 0, made.output
    index, black = LeakIndex([tmp_path / "refcoco_val.parquet"]), jpeg(Image.new("RGB", (64, 48)))
    for meta, known in (
        ({"image": "train2014/COCO_train2014_000000000001.jpg"}, True),
        ({"file_name": "000000000001.jpg"}, True),
        ({"source_id": "coco:1"}, True),
        ({"dataset": "COCO", "image_id": 1}, True),
        ({"image": "COCO_val2014_000000000077.jpg"}, False),
    ):
        leaks = index.leaks(ask(OTHER, black, meta=meta), text=0.5)
        assert [leak.by for leak in leaks] == ["source_id"] * 2 * known, meta  # a picture has two questions


def test_a_picture_is_known_by_name_after_the_writer_renamed_it_and_when_it_was_mended(tmp_path: Path) -> None:
    """Turned upright, it is bytes without a name; the benchmark holds another picture under that name."""
    turned = Image.Exif()
    turned[0x112] = 6
    (tmp_path / "coco").mkdir()
    photos(1)[0].save(tmp_path / "coco" / "COCO_train2014_000000000099.jpg", exif=turned)
    exam = ask(QUESTION, jpeg(photos(2)[1]), meta={"source_id": "coco:99", "source_ids": "coco:1"})
    assert source_ids(exam) == {"coco:99"}
    write_index([exam], "exam", tmp_path / "exam.parquet")
    row = {"question": OTHER, "task": "yesno", "answer": True, "image": "coco/COCO_train2014_000000000099.jpg"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    sources = [{"fn": "jsonl", "args": {"path": "rows.jsonl"}}]
    for mode in ("keep", "fix"):
        checks = {"fn": "validate", "args": {"modes": {"orientation": mode}}}
        recipe = Recipe.model_validate({"root": tmp_path, "sources": sources, "operators": [checks]})
        run(recipe, out=tmp_path / mode)
        (sample,) = read_samples(tmp_path / mode)
        assert sample.meta["source_ids"] == ["coco:99"]
        assert [leak.by for leak in LeakIndex([tmp_path / "exam.parquet"]).leaks(sample, text=0.5)] == ["source_id"]


def test_an_index_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    first, second = (ask(f"{QUESTION} ({n})", meta={"source_id": f"x:{n}"}) for n in (1, 2))
    leak = ask(OTHER, meta={"source_id": "x:2"})
    write_index([first], "exam", tmp_path / "exam.parquet")
    assert decontaminate(leak, against=[tmp_path / "exam.parquet"]) == leak
    write_index([first, second], "exam", tmp_path / "exam.parquet")
    assert decontaminate(leak, against=[tmp_path / "exam.parquet"]) == Dropped(leak, "leak_of_exam_by_source_id")


def test_two_cuts_of_a_film_and_media_without_a_hash_are_apart(tmp_path: Path) -> None:
    scenes = [
        np.stack([np.roll(np.asarray(photo.resize((128, 96))), t, axis=1) for t in range(16)]) for photo in photos(2)
    ]
    film = Media("video", bytes=mp4(np.concatenate(scenes), 8))
    whole = probe(film, "video")
    for media in (whole, replace(film, sha256=None)):
        cuts = [replace(media, start=start, end=start + 2.0) for start in (0.0, 2.0)]
        exam = [asked(f"{QUESTION} ({n})", cut) for n, cut in enumerate(cuts)]
        write_index(exam, "exam", tmp_path / "exam.parquet")
        index = LeakIndex([tmp_path / "exam.parquet"])
        per_cut = [index.leaks(asked(OTHER, replace(cut, sha256=whole.sha256)), text=0.5) for cut in cuts]
        assert [[leak.id for leak in leaks] for leaks in per_cut] == [[sample.id] for sample in exam]


def asked(question: str, film: Media) -> Sample:
    return with_id(Sample("", "s", "yesno", user_prompt(question, ["video"]), {"yesno": True}, (film,)))


def test_a_question_with_instructions_around_it_is_found_and_the_instructions_are_not(tmp_path: Path) -> None:
    framing = (
        "Look at the picture first. Think step by step, then give the final answer in one word, without a comment."
    )
    draw = random.Random(0)
    pool = [" ".join(f"word{draw.randrange(500)}" for _ in range(14)) for _ in range(20)]
    exam = [ask(f"{question}?\n{framing}") for question in pool]
    write_index(exam, "exam", tmp_path / "exam.parquet")
    index = LeakIndex([tmp_path / "exam.parquet"])
    assert [leak.id for leak in index.leaks(ask(f"Take your time. {pool[3]} Say yes or no."), text=0.5)] == [exam[3].id]
    assert index.leaks(ask(f"What does the little boy in the front row hold in his hand?\n{framing}"), text=0.5) == []
