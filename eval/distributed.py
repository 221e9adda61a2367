"""One evaluation in several processes, as `accelerate launch` or `torchrun` start them: each has its own batches."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from eval.records import RECORDS, Record, read_records

PATIENCE = timedelta(days=1)  # one process may have much longer answers than another
PART = "records-{:05d}.part.jsonl"


class Processes:
    """Which process this is, of how many; torch is loaded only when there are several."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0")) if self.count > 1 else 0

    @property
    def main(self) -> bool:
        """Whether this process prepares and finishes the run."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            state().wait_for_everyone()

    @property
    def file(self) -> str:
        """The file in which this process puts its records."""
        return PART.format(self.rank) if self.count > 1 else RECORDS


def state() -> Any:
    """accelerate's state: the processes and the device of this one. Without an accelerator it needs `cpu=True`, or the
    processes do not find each other."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)


def parts_of(out: Path) -> tuple[list[Record], list[Path]]:
    """The records that several processes left in files of their own in `out`, and these files."""
    files = sorted(out.glob(PART.replace("{:05d}", "*")))
    return [record for file in files for record in read_records(out, file.name)], files
