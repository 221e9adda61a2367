"""Sources: functions that read raw files and yield samples.

A source is `(**options) -> Iterator[Sample | Quarantined]`. It checks its inputs when it is called and reads them when
it is iterated. Options that many of them share:

- `root`: the folder at which paths start (the recipe's); `seed`: the recipe's seed;
- `path`: a file or a folder; `annotations`, `images`, `videos`: the file of annotations and the folders of media;
- `rows`: how the rows of a table are written (`data_engine.sources.row_format.Rows`);
- `task`: the task of the samples; `question`: the text to ask; `split`: the part of the data to read;
- `space`: how coordinates are written; `exif`: whether boxes were drawn on the picture as shown (`applied`), or as
  stored, before its EXIF rotation (`ignored`, then they are rotated);
- `categories`: those of an annotation file to ask about; `empty`: whether a picture without an object is a sample, too;
- `media_root`: the folder in which all media must be, by default that of the file; `extension`: the suffix of media;
- `n`: how many samples to make; `ask`: what is asked; `side`: the side of their pictures in pixels.
"""

SOURCES: dict[str, str] = {  # the name in a recipe -> where the function is; any other "module:function" works too
    "jsonl": "data_engine.sources.tables:jsonl",
    "json": "data_engine.sources.tables:json_array",
    "csv": "data_engine.sources.tables:csv_table",
    "parquet": "data_engine.sources.tables:parquet",
    "datasets": "data_engine.sources.tables:saved_dataset",
    "hub": "data_engine.sources.tables:hub_dataset",
    "video_questions": "data_engine.sources.tables:video_questions",
    "vqa_v2": "data_engine.sources.vqa:vqa_v2",
    "ocr_vqa": "data_engine.sources.vqa:ocr_vqa",
    "conversations": "data_engine.sources.conversations:conversations",
    "vlm_r1": "data_engine.sources.conversations:vlm_r1",
    "trl": "data_engine.sources.conversations:trl",
    "ms_swift": "data_engine.sources.ms_swift:ms_swift",
    "verl": "data_engine.sources.verl:verl",
    "webdataset": "data_engine.sources.webdataset:webdataset",
    "charades_sta": "data_engine.sources.moments:charades_sta",
    "activitynet": "data_engine.sources.moments:activitynet",
    "ego4d_nlq": "data_engine.sources.moments:ego4d_nlq",
    "refcoco": "data_engine.sources.phrases:refcoco",
    "refcoco_table": "data_engine.sources.phrases:refcoco_table",
    "visual_genome": "data_engine.sources.phrases:visual_genome",
    "os_atlas": "data_engine.sources.phrases:os_atlas",
    "vlmevalkit": "data_engine.sources.vlmevalkit:vlmevalkit",
    "image_folder": "data_engine.sources.folders:image_folder",
    "coco": "data_engine.sources.annotated.coco:coco",
    "pascal_voc": "data_engine.sources.annotated.pascal_voc:pascal_voc",
    "yolo": "data_engine.sources.annotated.yolo:yolo",
    "open_images": "data_engine.sources.annotated.open_images:open_images",
    "visdrone": "data_engine.sources.annotated.visdrone:visdrone",
    "label_studio": "data_engine.sources.annotated.label_studio:label_studio",
    "coco_captions": "data_engine.sources.annotated.coco:coco_captions",
    "easy_vqa": "data_engine.sources.easy_vqa:easy_vqa",
    "digits_grounding": "data_engine.sources.synthesis:digits_grounding",
    "digits_count": "data_engine.sources.synthesis:digits_count",
    "digits_reading": "data_engine.sources.synthesis:digits_reading",
    "digits_video": "data_engine.sources.synthesis:digits_video",
    "digits_scene": "data_engine.sources.scenes:digits_scene",
    "bar_charts": "data_engine.sources.scenes:bar_charts",
    "sums": "data_engine.sources.scenes:sums",
    "database_questions": "data_engine.sources.queries.databases:database_questions",
    "edit_pairs": "data_engine.sources.editing.edit_pairs:edit_pairs",
    "conditions": "data_engine.sources.editing.conditions:conditions",
    "descriptions": "data_engine.sources.editing.descriptions:descriptions",
    "edits": "data_engine.sources.editing.edit_pairs:edits",
    "edit_preferences": "data_engine.sources.editing.edit_preferences:edit_preferences",
}
