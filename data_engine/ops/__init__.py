"""Operators: functions that keep a sample or say why not. `data_engine.ops.base` says how to write one."""

OPERATORS: dict[str, str] = {  # the name in a recipe -> where the function is; any other "module:function" works too
    "validate": "data_engine.ops.check:validate",
    "min_pixels": "data_engine.ops.check:min_pixels",
    "only_tasks": "data_engine.ops.check:only_tasks",
    "exact_duplicates": "data_engine.ops.duplicates:exact_duplicates",
    "split": "data_engine.ops.split:split",
    "balance": "data_engine.ops.select:balance",
    "sample": "data_engine.ops.select:sample",
    "mix": "data_engine.ops.select:mix",
    "shuffle": "data_engine.ops.select:shuffle",
}
