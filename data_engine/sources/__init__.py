"""Sources: functions that read raw files and yield samples.

A source is `(**options) -> Iterator[Sample | Quarantined]`. It checks its inputs when it is called and reads them when
it is iterated. One with a `root` option gets the folder at which relative paths start, one with a `seed` option the
recipe's seed.
"""

SOURCES: dict[str, str] = {  # the name in a recipe -> where the function is; any other "module:function" works too
    "jsonl": "data_engine.sources.tables:jsonl",
    "parquet": "data_engine.sources.tables:parquet",
    "datasets": "data_engine.sources.tables:saved_dataset",
    "hub": "data_engine.sources.tables:hub_dataset",
    "video_questions": "data_engine.sources.tables:video_questions",
    "image_folder": "data_engine.sources.folders:image_folder",
    "coco": "data_engine.sources.coco:coco",
    "easy_vqa": "data_engine.sources.easy_vqa:easy_vqa",
    "digits_grounding": "data_engine.synthesis:digits_grounding",
    "digits_count": "data_engine.synthesis:digits_count",
    "digits_video": "data_engine.synthesis:digits_video",
}
