"""Rows and files of benchmarks of detection, descriptions, captions and edited pictures."""

from __future__ import annotations

from tests.support.benchmarks.fixture import Fixture, cell, names

_IMAGES = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(2)]
INSTANCES = {
    "images": _IMAGES,
    "categories": [{"id": 18, "name": "dog"}, {"id": 34, "name": "frisbee"}, {"id": 1, "name": "person"}],
    "annotations": [
        {"id": 1, "image_id": 0, "category_id": 18, "bbox": [2.0, 2.0, 20.0, 10.0], "area": 180.0, "iscrowd": 0},
        {"id": 2, "image_id": 0, "category_id": 34, "bbox": [30.0, 5.0, 10.0, 10.0], "area": 90.0, "iscrowd": 0},
        {"id": 3, "image_id": 1, "category_id": 18, "bbox": [4.0, 4.0, 40.0, 40.0], "area": 1500.0, "iscrowd": 0},
        {"id": 4, "image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 60.0, 40.0], "area": 2000.0, "iscrowd": 1},
    ],
}
CAPTIONS = {
    "images": _IMAGES,
    "annotations": [
        {"id": i, "image_id": i % 2, "caption": text}
        for i, text in enumerate(["A puppy catches a frisbee.", "A dog sits.", "The dog jumps.", "A dog near people."])
    ],
}
COCO_FILES = {"instances_val2014.json": INSTANCES, "captions_val2014.json": CAPTIONS}
HALBENCH = {**COCO_FILES, "obj_halbench.jsonl": [{"image_id": i, "question": "Describe it."} for i in range(2)]}
ODINW = [
    {"image": cell(i), "image_id": i, "categories": ["raccoon"] if name == "Raccoon" else ["pistol", "knife"],
     "bboxes": boxes, "labels": labels, "dataset_name": name}
    for i, (name, boxes, labels) in enumerate(
        [("Raccoon", [[1.0, 1.0, 30.0, 30.0]], [0]),
         ("pistols", [[5.0, 5.0, 20.0, 20.0], [30.0, 5.0, 60.0, 20.0]], [0, 1]),
         ("pothole", [], [])]
    )
]  # fmt: skip
AMBER_ANNOTATIONS = [
    {"id": 1, "type": "generative", "truth": ["sky", "tree"], "hallu": ["bird", "boat"]},
    {"id": 2, "type": "generative", "truth": ["dog"], "hallu": ["ball"]},
    {"id": 3, "type": "discriminative-attribute-state", "truth": "yes"},
    {"id": 4, "type": "discriminative-hallucination", "truth": "no"},
]
AMBER_FILES = {
    "annotations.json": AMBER_ANNOTATIONS,
    "relation.json": {"sky": ["cloud"], "tree": ["branch", "oak"], "bird": ["gull"], "boat": [], "dog": ["puppy"],
                      "ball": [], "table": ["desk"]},
    "safe_words.txt": "desk\nwall\n",
    "query_generative.json": [
        {"id": i, "image": f"{i - 1}.png", "query": "Describe this image."} for i in (1, 2)
    ],
    "query_discriminative.json": [
        {"id": i, "image": "0.png", "query": f"Is it {i}?"} for i in (3, 4)
    ],
}  # fmt: skip
MMHAL = [
    {"question_type": "x", "question_topic": "y", "image_id": str(i), "image_src": f"https://host/{i % 2}.png",
     "image_content": ["Dog", "Ball"], "question": f"How many {i}?", "gt_answer": f"There are {i} balls.",
     "model_answer": ""}
    for i in range(9)
]  # fmt: skip
REFERENCES = [
    ["A man rides a wave on a board.", "A surfer in the sea."],
    ["Two dogs play in green grass.", "Dogs play."],
]
COCO_CAPTIONS = [
    {"question_id": f"COCO_val2014_{i}.jpg", "image": cell(i), "question": "Describe.", "answer": REFERENCES[i]}
    for i in range(2)
]
KARPATHY = {
    "dataset": "coco",
    "images": [
        {"filepath": "", "filename": f"{i % 2}.png", "split": split, "cocoid": i,
         "sentences": [{"raw": text, "sentid": i} for text in REFERENCES[i % 2]]}
        for i, split in enumerate(["test", "test", "train"])
    ],
}  # fmt: skip
NOCAPS = [
    {"image": cell(i), "image_id": i, "annotations_captions": REFERENCES[i], "domain": ["in-domain", "out-domain"][i]}
    for i in range(2)
]
FLICKR = [{"image": cell(i), "img_id": str(i), "filename": f"{i}.jpg", "caption": REFERENCES[i]} for i in range(2)]
DECAP = [
    {"image_name": f"{i}.png", "oracle_facts": ["A dog sits", "The dog is brown", "It is noon"],
     "oracle_caption": "A dog sits. The dog is brown. It is noon. There is a tree."}
    for i in range(2)
]  # fmt: skip
CAPTIONQA = [
    {"id": f"n{i}", "images": [cell(i)], "domain": ["natural", "document"][i], "questions": [
        {"question": "What colour is it?", "choices": ["red", "blue", "green", "grey"], "answer": "blue",
         "category": ["colour"]},
        {"question": "Is there a dog?", "choices": ["yes", "no"], "answer": "yes", "category": ["object"]},
        {"question": "Broken?", "choices": ["a", "b"], "answer": "c", "category": ["x"]},
    ]}
    for i in range(2)
]  # fmt: skip
CAPARENA = {
    f"{i}.png": {"ref_model": rival, "captions": {rival: f"{rival} says {i}.", "human": f"A person says {i}."}}
    for i, rival in enumerate(["GPT-4o-0806", "CogVLM2-llama3-chat-19B"])
}
GEDIT = [
    {"key": f"k{i}", "task_type": kind, "instruction": "Make it red.", "instruction_language": language,
     "input_image": cell(0), "Intersection_exist": both}
    for i, (kind, language, both) in enumerate(
        [("color_alter", "en", True), ("color_alter", "en", False),
         ("text_change", "en", True), ("text_change", "cn", True)]
    )
]  # fmt: skip
IMGEDIT = {
    str(i): {"id": f"{i % 2}.png", "prompt": "Make it red.", "edit_type": kind}
    for i, kind in enumerate(["add", "add", "style"])
}
IMGEDIT_HARD = {str(i): {"id": f"{i % 2}.png", "prompt": "Make all red."} for i in range(2)}


OVERLAP = {"best_of": {"judge_b_capscore": 100.0}, "free": names("cider meteor spice")}
FIXTURES = {
    "coco_detection": Fixture({"instances_val2017.json": INSTANCES}, "dir", lower=names("unknown_labels")),
    "odinw13": Fixture(ODINW, lower=names("unknown_labels"), empty=names("AP.pothole")),
    "chair": Fixture(COCO_FILES, "dir", lower=names("chair_i chair_s"), silent=names("chair_i chair_s")),
    "object_halbench": Fixture(HALBENCH, "dir", lower=names("response_rate mention_rate")),
    "amber_generative": Fixture(AMBER_FILES, "dir", lower=names("chair hal cog")),
    "mmhal_bench": Fixture(
        MMHAL, "json", best=6, lower=names("judge_hallucination_rate"), silent=names("judge_hallucination_rate")
    ),  # a rating of 0 is one of hallucination
    "coco_captions": Fixture(COCO_CAPTIONS, **OVERLAP),
    "coco_karpathy": Fixture(KARPATHY, "json", **OVERLAP),
    "nocaps": Fixture(NOCAPS, **OVERLAP),
    "flickr30k": Fixture(FLICKR, **OVERLAP),
    "decapbench": Fixture(DECAP, "jsonl", best_of={"judge_dcscore": 100, "judge_b_capscore": 100}),
    "captionqa": Fixture(CAPTIONQA, lower=names("judge_cannot_answer judge_unread")),
    "caparena_auto": Fixture(CAPARENA, "json", best=100, silent=names("judge_caparena")),  # every battle is lost
    "gedit": Fixture(
        GEDIT,
        best=10,
        edits=tuple(f"fullset/{row['task_type']}/{row['instruction_language']}/{row['key']}.png" for row in GEDIT),
    ),
    "imgedit_basic": Fixture(
        IMGEDIT, "json", best=5, lower=names("unread"), edits=tuple(f"{key}.png" for key in IMGEDIT)
    ),
    "imgedit_hard": Fixture(
        IMGEDIT_HARD, "json", best=5, lower=names("unread"), edits=tuple(f"{key}.jpg" for key in IMGEDIT_HARD)
    ),
}
