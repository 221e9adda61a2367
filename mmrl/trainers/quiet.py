"""What a log leaves out: values that there are none of, and warnings of libraries about each other."""

from __future__ import annotations

import warnings
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# TRL 1.16 asks for gradient checkpointing by names that transformers calls old, several times a step.
OLD_NAMES = (
    *("gradient_checkpointing", "is_gradient_checkpointing"),
    *("gradient_checkpointing_enable", "gradient_checkpointing_disable"),
)


class KnownValues(TrainerCallback):
    """Takes out of what is logged the values that are None, as of a reward whose task is not in the batch.

    Loggers complain about each of them at each step. This callback is to be the first.
    """

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Take them out."""
        for key in [key for key, value in (logs or {}).items() if value is None]:
            del logs[key]


def quieten(trainer: Any) -> None:
    """Make the log of `trainer` quiet."""
    trainer.callback_handler.callbacks.insert(0, KnownValues())
    forget_old_names()


def forget_old_names() -> None:
    """Do not print the warnings about old names that TRL uses; no setting of ours avoids them."""
    for name in OLD_NAMES:
        warnings.filterwarnings("ignore", f"`{name}` is deprecated", FutureWarning)
