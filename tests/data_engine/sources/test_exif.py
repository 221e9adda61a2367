"""Boxes of every source follow the EXIF rotation of their picture."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_engine.ops.validate import validate
from data_engine.schema import Sample
from data_engine.sources.annotated.coco import coco
from data_engine.sources.conversations import vlm_r1
from data_engine.sources.ms_swift import ms_swift
from data_engine.sources.phrases import refcoco, refcoco_table, visual_genome
from data_engine.sources.row_format import Rows
from data_engine.sources.tables import jsonl
from mmrl.core.media.image import load_image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_follow_the_exif_rotation_into_the_upright_picture(orientation: int, tmp_path: Path) -> None:
    stored = np.zeros((60, 100, 3), np.uint8)
    stored[10:20, 30:70] = 255  # a white box on black, where the gold says: in the pixels as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    row = {"question": "Where?", "image": "turned.png", "task": "grounding", "boxes": [30, 10, 40, 10]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    entry = {"id": 1, "file_name": "turned.png", "width": 100, "height": 60}
    marked = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 10, 40, 10]}
    data = {"images": [entry], "annotations": [marked], "categories": [{"id": 1, "name": "box"}]}
    (tmp_path / "coco.json").write_text(json.dumps(data))
    ref = {"ref_id": 1, "image_id": 1, "ann_id": 1, "split": "train", "sentences": [{"sent": "box"}]}
    (tmp_path / "refs.p").write_bytes(pickle.dumps([ref], protocol=2))
    region = {"x": 30, "y": 10, "width": 40, "height": 10, "phrase": "box"}
    (tmp_path / "regions.json").write_text(
        json.dumps([{"id": "turned", "width": 100, "height": 60, "regions": [region]}])
    )
    record = {"image": "turned.png", "problem": "Where is it?", "solution": "<answer>[30, 10, 70, 20]</answer>"}
    (tmp_path / "r1.jsonl").write_text(json.dumps(record))
    messages = [{"role": "user", "content": "<image>Where?"}, {"role": "assistant", "content": "<bbox>"}]
    swift = {"messages": messages, "images": ["turned.png"], "objects": {"bbox": [[30, 10, 70, 20]]}}
    (tmp_path / "swift.jsonl").write_text(json.dumps(swift))
    table = {"image_path": ["turned.png"], "sentences": [["box"]], "bbox": [[30.0, 10.0, 40.0, 10.0]]}
    pq.write_table(pa.table(table), tmp_path / "refs.parquet")
    form = Rows.model_validate({"boxes": "xywh", "exif": "ignored"})
    for read in (
        jsonl(path="rows.jsonl", root=tmp_path, rows=form),
        coco(annotations="coco.json", images=".", root=tmp_path, exif="ignored"),
        refcoco(refs="refs.p", instances="coco.json", images=".", root=tmp_path, exif="ignored"),
        refcoco_table(path="refs.parquet", root=tmp_path, exif="ignored"),
        vlm_r1(path="r1.jsonl", root=tmp_path, task="grounding", exif="ignored"),
        ms_swift(path="swift.jsonl", root=tmp_path, exif="ignored"),
        visual_genome(regions="regions.json", images=".", root=tmp_path, extension="png", exif="ignored"),
    ):
        (sample,) = read
        assert isinstance(sample, Sample)
        outcome = validate(sample, modes={"orientation": "fix"})
        assert isinstance(outcome, Sample), outcome
        assert outcome.meta.get("fixed") == (["orientation"] if orientation > 1 else None)
        pixels = np.asarray(load_image(outcome.media[0]))[..., 0]
        rows, columns = np.nonzero(pixels)
        assert outcome.answer["boxes"] == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
        assert (outcome.media[0].width, outcome.media[0].height) == pixels.shape[::-1]
