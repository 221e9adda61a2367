"""Operators: functions that keep, change or drop samples. `data_engine.operator` says how to write one.

`seed`, an option of many, is the seed of the recipe unless it is given, and `root` the folder at which its paths start.
"""

OPERATORS: dict[str, str] = {  # the name in a recipe -> where the function is; any other "module:function" works too
    "validate": "data_engine.ops.validate:validate",
    "unique_ids": "data_engine.ops.validate:unique_ids",
    "min_pixels": "data_engine.ops.check:min_pixels",
    "only_tasks": "data_engine.ops.check:only_tasks",
    "verifiable": "data_engine.ops.verify:verifiable",
    "other_golds": "data_engine.ops.verify:other_golds",
    "shuffle_options": "data_engine.ops.options:shuffle_options",
    "guessable": "data_engine.ops.options:guessable",
    "measure": "data_engine.ops.filters:measure",
    "min_side": "data_engine.ops.filters:min_side",
    "max_aspect": "data_engine.ops.filters:max_aspect",
    "text_length": "data_engine.ops.filters:text_length",
    "option_count": "data_engine.ops.filters:option_count",
    "min_entropy": "data_engine.ops.filters:min_entropy",
    "min_sharpness": "data_engine.ops.filters:min_sharpness",
    "max_vision_tokens": "data_engine.ops.filters:max_vision_tokens",
    "in_language": "data_engine.ops.filters:in_language",
    "caption_agreement": "data_engine.ops.filters:caption_agreement",
    "exact_duplicates": "data_engine.ops.duplicates:exact_duplicates",
    "near_duplicates": "data_engine.ops.duplicates:near_duplicates",
    "decontaminate": "data_engine.ops.decontaminate:decontaminate",
    "difficulty": "data_engine.ops.difficulty:difficulty",
    "by_reward": "data_engine.ops.difficulty:by_reward",
    "split": "data_engine.ops.split:split",
    "balance": "data_engine.ops.select:balance",
    "cap_media": "data_engine.ops.select:cap_media",
    "quota": "data_engine.ops.quotas:quota",
    "sample": "data_engine.ops.select:sample",
    "mix": "data_engine.ops.select:mix",
    "curriculum": "data_engine.ops.difficulty:curriculum",
    "shuffle": "data_engine.ops.select:shuffle",
}
