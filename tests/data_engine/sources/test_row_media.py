"""No row loses a picture without a word: columns of other names, links, other spellings, folders of frames."""

from __future__ import annotations

import base64
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_engine.media.source_ids import source_ids
from data_engine.operator import Quarantined
from data_engine.ops.validate import validate
from data_engine.schema import Sample
from data_engine.sources.conversations import conversations, vlm_r1
from data_engine.sources.phrases import refcoco_table
from data_engine.sources.row_format import Rows
from data_engine.sources.tables import parquet
from mmrl.core.media.video import load_frames
from tests.support.clips import picture
from tests.support.rows import only_sample, read_rows, reasons, refused, sound, write

ASKED = {"question": "How many dogs?", "answer": 0, "task": "count"}
NAMED = "COCO_train2014_000000000099.jpg"


@pytest.mark.parametrize(
    "media",
    [
        {"image_path": "a.png"},
        {"img": "a.png"},
        {"path": "a.png"},
        {"file_name": "a.png"},
        {"photo": {"path": "a.png", "bytes": None}},
        {"image_1": "a.png", "image_2": "a.png"},
        {"clip": "films/a.mp4"},
        {"vid": "NUsG9BgSes0_210.0_360.0"},
        {"video_uid": "38737402-19bd"},
        {"imageId": 2375429},
        {"url": "https://example.org/a.jpg?size=2"},
        {"screenshot": "data:image/png;base64,iVBORw0KGgo="},
        {"views": ["a.png", "a.png"]},
        {"scene": {"camera": "a.png"}},
    ],
)
def test_a_row_whose_media_nobody_reads_is_refused(root: Path, media: dict[str, Any]) -> None:
    (item,) = read_rows(root, [{**ASKED, **media}])
    assert isinstance(item, Quarantined)
    assert item.reason == "unread_media"
    assert next(iter(media)) in item.why
    assert "rows.columns" in item.why
    assert reasons(read_rows(root, [{**ASKED, **media}], ignore=list(media))) == ["count"]


def test_a_row_loses_no_sound_and_no_picture_of_its_meta(root: Path) -> None:
    for more in ({"audio": "a.wav"}, {"speech": {"path": "a.flac", "bytes": None}}, {"meta": {"image": "a.png"}}):
        assert reasons(read_rows(root, [{**ASKED, **more}])) == ["unread_media"]
    assert reasons(read_rows(root, [{**ASKED, "audio": "a.wav"}], ignore=["audio"])) == ["count"]
    assert reasons(read_rows(root, [{**ASKED, "image": "a.png", "meta": {"image": "a.png"}}])) == ["count"]
    named = read_rows(root, [{**ASKED, "meta": {"image": "a.png"}}], columns={"image": "meta.image"})
    assert len(only_sample(named).media) == 1


@pytest.mark.parametrize("tag", ['<img src="a.png">', "![](a.png)", "[image]", "<image_1>", "<ImageHere>", "<audio>"])
def test_a_tag_that_shows_nothing_is_told_where_a_row_has_no_media(root: Path, tag: str) -> None:
    told = validate(only_sample(read_rows(root, [{**ASKED, "question": f"{tag} How many dogs?"}])))
    assert isinstance(told, Quarantined)
    assert (told.reason, tag[:5] in told.why) == ("marker_mismatch", True)
    code = {**ASKED, "question": f"What does {tag} do in this page?", "image": "a.png"}
    assert isinstance(validate(only_sample(read_rows(root, [code]))), Sample)


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"image_2": "b.png"}, False),
        ({"second": "b.png"}, False),
        ({"mask": base64.b64encode(b"x").decode()}, True),
        ({"image_path": "a.png", "url": "https://example.org/a.png"}, True),
        ({"image_id": 7, "caption_file": "gone.png", "image_width": 100}, True),
    ],
)
def test_a_second_picture_is_not_lost_beside_the_first(root: Path, more: dict[str, Any], kept: bool) -> None:
    Image.new("RGB", (40, 40)).save(root / "b.png")
    assert reasons(read_rows(root, [{**ASKED, "image": "a.png", **more}])) == ["count" if kept else "unread_media"]


def test_a_text_without_media_is_kept_and_a_marker_without_media_is_not(root: Path) -> None:
    rows = [{**ASKED, "question": text, "subject": "physics"} for text in ("2 + 2?", "See <image 1>.", "See <Image>.")]
    outcomes = [validate(item) for item in read_rows(root, rows) if isinstance(item, Sample)]
    assert [getattr(outcome, "reason", "kept") for outcome in outcomes] == ["kept", *["marker_mismatch"] * 2]
    (shown,) = read_rows(root, [{**ASKED, "image": "a.png", "question": "See <image 1>."}])
    assert isinstance(shown, Sample)
    assert isinstance(validate(shown), Sample)


def test_several_columns_may_hold_the_pictures(root: Path) -> None:
    Image.new("RGB", (40, 40)).save(root / "b.png")
    row = {**ASKED, "image_1": "a.png", "image_2": "b.png", "image_3": None}
    columns = {"images": ["image_1", "image_2", "image_3"]}
    sample = only_sample(read_rows(root, [row], columns=columns))
    assert [Path(item.path or "").name for item in sample.media] == ["a.png", "b.png"]


def test_conversations_and_video_r1_do_not_lose_media_either(root: Path) -> None:
    talk = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A wall."}]
    path = write(root, "c.json", [{"conversations": talk, "image_path": "a.png"}])
    assert refused(conversations(path=path, root=root)) == [("unread_media", "c.json:2")]
    film = {"problem": "When?", "solution": "<answer>3</answer>", "problem_type": "numerical", "data_type": "image"}
    (sample,) = sound(vlm_r1(path=write(root, "v.json", [{**film, "path": "./a.png"}]), root=root))
    assert (sample.task, sample.answer, len(sample.media)) == ("number", {"number": 3.0}, 1)


def test_the_names_of_pictures_in_bytes_are_kept(root: Path) -> None:
    held = {"bytes": (root / "a.png").read_bytes(), "path": f"train2014/{NAMED}"}
    pq.write_table(pa.Table.from_pylist([{"image": held, "question": "Red?", "answer": "yes"}]), root / "p.parquet")
    nameless = {"image": {**held, "path": None}, "bbox": [1.0, 2.0, 30.0, 20.0], "answer": ["a wall"]}
    pq.write_table(pa.Table.from_pylist([{**nameless, "file_name": NAMED}]), root / "r.parquet")
    asked = {"image": {**held, "path": None}, "question": "Red?", "answer": "yes", "file_name": NAMED}
    pq.write_table(pa.Table.from_pylist([asked]), root / "f.parquet")
    rows = Rows(task="yesno")
    read = [*parquet(path="p.parquet", root=root, rows=rows), *parquet(path="f.parquet", root=root, rows=rows)]
    for item in (*read, *refcoco_table(path="r.parquet", root=root)):
        assert isinstance(item, Sample)
        assert source_ids(item) == {"coco:99"}
        assert item.meta["media_names"][0].endswith(NAMED)


def test_links_lead_out_of_the_folder_where_that_is_allowed(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store, cache = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("hub") / "datasets--me--things"
    (store / "b.png").write_bytes((root / "a.png").read_bytes())
    (root / "b.png").symlink_to(store / "b.png")
    row = [{**ASKED, "image": "b.png"}]
    assert reasons(read_rows(root, row)) == ["outside_root"]
    assert reasons(read_rows(root, row, links=[str(store)])) == ["count"]
    snapshot = cache / "snapshots" / "1f0c"
    (cache / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (cache / "blobs" / "9a").write_bytes((root / "a.png").read_bytes())
    (snapshot / NAMED).symlink_to("../../blobs/9a")
    (snapshot / "away.png").symlink_to(store / "b.png")
    sample = only_sample(read_rows(snapshot, [{**ASKED, "image": NAMED}]))
    assert source_ids(sample) == {"coco:99"}
    assert reasons(read_rows(snapshot, [{**ASKED, "image": "away.png"}])) == ["outside_root"]


@pytest.mark.parametrize(("there", "named"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_finds_its_file_however_accents_and_folders_are_written(root: Path, there: Any, named: Any) -> None:
    (root / unicodedata.normalize(there, "été")).mkdir()
    (root / "a.png").rename(root / unicodedata.normalize(there, "été/café.png"))
    rows = [{**ASKED, "image": unicodedata.normalize(named, name)} for name in ("été/café.png", "été\\café.png")]
    assert reasons(read_rows(root, rows)) == ["count", "count"]
    assert reasons(read_rows(root, [{**ASKED, "image": "été/thé.png"}])) == ["missing"]


def test_media_may_be_named_by_an_id_or_stand_in_the_row(root: Path) -> None:
    (root / "a.png").rename(root / "4010_2.5.png")
    rows = [{**ASKED, "image": name} for name in ("4010_2.5", "4010_2.5.png")]
    assert reasons(read_rows(root, rows, extension=".png")) == ["count", "count"]
    (root / "7.png").write_bytes((root / "4010_2.5.png").read_bytes())
    assert reasons(read_rows(root, [{**ASKED, "image": 7}], extension="png")) == ["count"]
    content = (root / "7.png").read_bytes()
    written = base64.b64encode(content).decode()
    for text in (written, f"data:image/png;base64,{written}"):
        assert only_sample(read_rows(root, [{**ASKED, "image": text}])).media[0].bytes == content
    assert reasons(read_rows(root, [{**ASKED, "image": "data:image/png;base64,!"}])) == ["bad_media"]


def test_a_folder_of_frames_is_a_video_or_its_pictures(root: Path) -> None:
    (root / "frames").mkdir()
    for number in (1, 2, 10):
        Image.fromarray(picture(number, 75, 51)).save(root / "frames" / f"{number}.png")
    row = {**ASKED, "video": "frames"}
    assert reasons(read_rows(root, [row])) == ["bad_media"]
    film = only_sample(read_rows(root, [row], frame_rate=2))
    assert film == only_sample(read_rows(root, [row], frame_rate=2))
    outcome = validate(film)
    assert isinstance(outcome, Sample)
    media = outcome.media[0]
    assert (media.num_frames, media.fps, media.width, media.height) == (3, 2.0, 75, 51)
    for frame, number in zip(load_frames(media, 3).frames, (1, 2, 10), strict=True):
        assert np.abs(frame.astype(int) - picture(number, 75, 51)).mean() < 6
    pictures = only_sample(read_rows(root, [{**ASKED, "images": "frames"}]))
    assert [Path(item.path or "").name for item in pictures.media] == ["1.png", "2.png", "10.png"]
    (root / "empty").mkdir()
    assert reasons(read_rows(root, [{**ASKED, "images": "empty"}])) == ["bad_media"]


def test_a_row_is_never_filed_under_another_licence_than_its_own(root: Path) -> None:
    for row, licence in (
        ({"license": "cc-by-nc-4.0"}, "cc-by-nc-4.0"),
        ({"licence": ["cc-by-4.0", {"name": "mit"}]}, "cc-by-4.0, mit"),
        ({"license": "cc-by-nc-4.0", "meta": {"licence": "cc-by-4.0"}}, "cc-by-4.0"),
        ({"License": "cc-by-nc-4.0"}, "cc-by-nc-4.0"),
        ({"licenses": ["cc-by-4.0", "gpl"]}, "cc-by-4.0, gpl"),
    ):
        assert only_sample(read_rows(root, [{**ASKED, **row}])).meta["licence"] == licence
    talk = {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "Red."}], "LICENSE": "gpl"}
    assert only_sample(conversations(path=write(root, "t.jsonl", [talk]), root=root)).meta["licence"] == "gpl"
    phrase = {"image": "a.png", "bbox": [1, 2, 10, 20], "answer": ["the wall"], "License": "cc-by-sa-4.0"}
    pq.write_table(pa.Table.from_pylist([phrase]), root / "p.parquet")
    assert only_sample(refcoco_table(path="p.parquet", root=root)).meta["licence"] == "cc-by-sa-4.0"
    rights = only_sample(read_rows(root, [{**ASKED, "rights": "GPL"}], columns={"licence": "rights"}))
    assert rights.meta["licence"] == "GPL"
    held = json.dumps({**ASKED, "license": None})
    assert "licence" not in only_sample(read_rows(root, [held])).meta
