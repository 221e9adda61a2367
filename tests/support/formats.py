"""A few samples in every format that sources read, written as the projects do whose formats they are."""

from __future__ import annotations

import base64
import io
import json
import pickle
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_sample_image

from tests.support.clips import write_clip

SIZE = (160, 107)
BOX = [10, 12, 50, 60]  # x, y, width, height
CORNERS = [10, 12, 60, 72]


def write_formats(root: Path) -> None:
    """Everything that `configs/data/offline.yaml` reads, below `root`."""
    for name in ("images/china.jpg", "images/flower.jpg", "folder/temple/1.jpg", "folder/flower/1.jpg", "vg/7.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photo("flower" if "flower" in name else "china").save(root / name, quality=95)
    (root / "clips").mkdir()
    write_clip(root / "clips" / "a.mp4", 50)
    tables(root)
    chats(root)
    places(root)
    more_places(root)
    moments(root)
    answered(root)


def photo(name: str) -> Image.Image:
    """A small photograph."""
    return Image.fromarray(load_sample_image(f"{name}.jpg")).resize(SIZE)


def jpeg(name: str) -> bytes:
    """The file of one."""
    file = io.BytesIO()
    photo(name).save(file, "JPEG", quality=95)
    return file.getvalue()


def lines(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)))


def tables(root: Path) -> None:
    """JSON lines and arrays, parquet, saved datasets, WebDataset, VLMEvalKit, verl."""
    asked = [
        {"question": f"How many {noun}?", "answer": n, "task": "count"} for n, noun in enumerate(["roofs", "bees"])
    ]
    lines(root / "rows.jsonl", [*({**row, "image": "images/china.jpg"} for row in asked), {"question": "?"}])
    rows = [{**row, "question": f"{row['question']} Count well.", "image": "images/flower.jpg"} for row in asked]
    (root / "rows.json").write_text(json.dumps(rows, indent=1))
    thrice = [
        "How many towers are there in all?",
        "how many towers are there in all",
        "How many TOWERS are there in all",
    ]
    (root / "rows.csv").write_text("\n".join(["image,question,answer", *(f"images/china.jpg,{q},1" for q in thrice)]))
    held = {"bytes": jpeg("flower"), "path": None}
    parquet_rows = [
        {"image": held, "question": "Is it red?", "answer": "yes"},
        {"image": held, "question": "Is it a cat?", "answer": "no"},
    ]
    pq.write_table(pa.Table.from_pylist(parquet_rows), root / "rows.parquet")
    table = datasets.Dataset.from_list(
        [{"image": held, "query": "What is it?", "choices": ["a cat", "a flower"], "label": 1}]
    )
    table.cast_column("image", datasets.Image()).save_to_disk(root / "saved")
    row = json.dumps({"question": "Name the flower.", "answer": "dahlia", "task": "text"}).encode()
    with tarfile.open(root / "shard-0.tar", "w") as tar:
        for name, content in (("0001.jpg", jpeg("flower")), ("0001.json", row)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    picture = base64.b64encode(jpeg("china")).decode()
    head = "index\timage\tquestion\tA\tB\tanswer"
    (root / "bench.tsv").write_text(f"{head}\n0\t{picture}\tWhat is it?\ta temple\ta boat\tA\n")
    judged = {"style": "rule", "ground_truth": "7/2"}
    chat = [{"role": "user", "content": "<image>Three and a half as a fraction?"}]
    whole = {"data_source": "sums", "prompt": chat, "images": [held], "reward_model": judged, "ability": "math"}
    pq.write_table(pa.Table.from_pylist([whole]), root / "verl.parquet")


def chats(root: Path) -> None:
    """LLaVA, VLM-R1, TRL, ms-swift."""
    talk = [{"from": "human", "value": "<image>\nDescribe it."}, {"from": "gpt", "value": "A temple by a lake."}]
    (root / "llava.json").write_text(json.dumps([{"id": "7", "image": "images/china.jpg", "conversations": talk}]))
    answer = f"<answer>{CORNERS}</answer>"
    lines(root / "vlm_r1.jsonl", [{"image": "images/china.jpg", "problem": "Where is the roof?", "solution": answer}])
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many lakes?"}]}]
    lines(root / "trl.jsonl", [{"prompt": asked, "images": ["images/china.jpg"], "solution": "\\boxed{1}"}])
    messages = [{"role": "user", "content": "<image>Find <ref-object>."}, {"role": "assistant", "content": "<bbox>"}]
    objects = {"ref": ["the roof"], "bbox": [CORNERS]}
    lines(root / "swift.jsonl", [{"messages": messages, "images": ["images/china.jpg"], "objects": objects}])


def places(root: Path) -> None:
    """COCO instances and captions, Pascal VOC, YOLO, RefCOCO in its two forms, Visual Genome."""
    image = {"id": 7, "file_name": "china.jpg", "width": SIZE[0], "height": SIZE[1]}
    roof = {"id": 3, "image_id": 7, "category_id": 1, "bbox": BOX, "iscrowd": 0}
    known = {"images": [image], "categories": [{"id": 1, "name": "roof"}]}
    (root / "instances.json").write_text(json.dumps({**known, "annotations": [roof]}))
    (root / "voc").mkdir()
    corners = zip(("xmin", "ymin", "xmax", "ymax"), CORNERS, strict=True)
    box = "".join(f"<{name}>{side}</{name}>" for name, side in corners)
    found = f"<object><name>gable</name><bndbox>{box}</bndbox></object>"
    (root / "voc" / "china.xml").write_text(f"<annotation><filename>china.jpg</filename>{found}</annotation>")
    for folder in ("images", "labels"):
        (root / "yolo" / folder).mkdir(parents=True)
    photo("china").save(root / "yolo" / "images" / "1.jpg", quality=90)
    (root / "yolo" / "labels" / "1.txt").write_text("0 0.25 0.25 0.2 0.3\n")
    (root / "yolo" / "data.yaml").write_text("train: images\nnames: [eaves]\n")
    captions = [
        {"id": 1, "image_id": 7, "caption": "A temple by a lake."},
        {"id": 2, "image_id": 7, "caption": "A temple."},
    ]
    (root / "captions.json").write_text(json.dumps({"images": [image], "annotations": captions}))
    sentences = [{"raw": "Left roof.", "sent": "left roof", "sent_id": 0}]
    ref = {"ref_id": 1, "image_id": 7, "ann_id": 3, "split": "train", "sentences": sentences}
    (root / "refs(unc).p").write_bytes(pickle.dumps([ref], protocol=2))
    held = {"bytes": jpeg("china"), "path": None}
    row = {"question_id": "7", "image": held, "bbox": [float(side) for side in BOX], "answer": ["the roof to the left"]}
    pq.write_table(pa.Table.from_pylist([row]), root / "refcoco.parquet")
    x, y, width, height = BOX
    region = {
        "region_id": 5,
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "phrase": "a curved roof",
        "image_id": 7,
    }
    (root / "regions.json").write_text(json.dumps([{"id": 7, "regions": [region]}]))


def more_places(root: Path) -> None:
    """Open Images, VisDrone, Label Studio, OS-Atlas."""
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf"
    (root / "boxes.csv").write_text(f"{head}\nchina,xclick,/m/06k2mb,1,0.1,0.4,0.1,0.6,0\n")
    (root / "classes.csv").write_text("/m/06k2mb,Pagoda\n")
    (root / "drone").mkdir()
    (root / "drone" / "china.txt").write_text("30,20,40,50,1,4,0,0\n")
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["veranda"]}
    result = {"from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": value}
    result |= {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0}
    task = {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-china.jpg"}, "annotations": [{"result": [result]}]}
    (root / "studio.json").write_text(json.dumps([task]))
    element = {"instruction": "the lantern by the door", "bbox": [0.2, 0.3, 0.4, 0.5], "data_type": "icon"}
    (root / "atlas.json").write_text(json.dumps([{"img_filename": "china.jpg", "elements": [element]}]))


def answered(root: Path) -> None:
    """VQAv2, OCR-VQA."""
    asked = {"image_id": 7, "question": "What is by the lake?", "question_id": 70}
    (root / "vqa_q.json").write_text(json.dumps({"data_subtype": "train2014", "questions": [asked]}))
    said = [{"answer": "temple", "answer_confidence": "yes", "answer_id": number} for number in range(10)]
    told = {"image_id": 7, "question_id": 70, "multiple_choice_answer": "temple", "answers": said}
    (root / "vqa_a.json").write_text(json.dumps({"annotations": [told]}))
    cover = {"imageURL": "http://books.example.org/51.jpg", "split": 1}
    cover |= {"questions": ["Who is the author of this book?"], "answers": ["Jo Doe"]}
    (root / "covers.json").write_text(json.dumps({"7": cover}))


def moments(root: Path) -> None:
    """Videos with questions, Charades-STA, ActivityNet, Ego4D."""
    lines(root / "clips.jsonl", [{"video": "a.mp4", "question": "When does the window turn?", "spans": [[0.2, 0.9]]}])
    (root / "charades.txt").write_text("a 0.1 0.8##the view moves over a roof.\n")
    entry = {"duration": 2.0, "timestamps": [[0.5, 1.5]], "sentences": ["The view moves on."]}
    (root / "activitynet.json").write_text(json.dumps({"a": entry}))
    query = {"query": "Where was the roof?", "clip_start_sec": 0.4, "clip_end_sec": 1.2}
    clip = {"clip_uid": "a", "annotations": [{"language_queries": [query]}]}
    (root / "nlq.json").write_text(json.dumps({"videos": [{"video_uid": "v", "split": "train", "clips": [clip]}]}))
