"""The operators that check samples: `validate` and `unique_ids`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from data_engine.media.deadline import within
from data_engine.media.source_ids import NOTED, source_ids
from data_engine.operator import Dropped, Quarantined, each, quarantine, stream
from data_engine.schema import Sample
from data_engine.validate.checks import CHECKS, Mode, Modes
from data_engine.validate.fault import Fault, Limits
from data_engine.validate.media_checks import declared_faults, inspected, rescaled
from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from mmrl.core.media.image import plain_png
from mmrl.core.media.item import Media

REWRITTEN = ("animated", "image_mode", "alpha", "orientation")  # facts of an image that a plain PNG does not have


@each
def validate(
    sample: Sample, *, modes: Modes | None = None, limits: Limits | None = None
) -> Sample | Dropped | Quarantined:
    """Decode, hash and measure the media of a sample, and make the checks of `data_engine.validate.checks`.

    `modes` says what to do about a fault (code -> keep, drop, quarantine, fix, fail) where it differs from the default,
    and `limits` where some checks begin. `meta.fixed` lists the faults that were fixed. `meta.source_ids` lists the
    pictures of public datasets that the file names point to, because a dataset stores its media under other names.
    """
    run, limits = _Run(sample, modes or {}), limits or Limits()
    try:
        run.measure(limits.seconds)
        for code, check in CHECKS.items():
            if check.find and (fault := check.find(run.sample, limits)):
                run.meet(code, fault)
    except _StoppedError as stopped:
        return stopped.outcome
    named = sorted(source_ids(replace(run.sample, media=sample.media)))
    noted = {**({"fixed": run.fixed} if run.fixed else {}), **({NOTED: named} if named else {})}
    return replace(run.sample, meta={**run.sample.meta, **noted})  # another object: so the pipeline gives it an id


class _StoppedError(Exception):
    """The sample was dropped or quarantined."""

    def __init__(self, outcome: Dropped | Quarantined) -> None:
        super().__init__()
        self.outcome = outcome


class _Run:
    """A sample during its checks, and the faults that were fixed so far."""

    def __init__(self, sample: Sample, modes: Mapping[str, Mode]) -> None:
        self.sample, self.fixed, self._modes = sample, list[str](), modes

    def meet(self, code: str, fault: Fault) -> None:
        """Handle a fault by its mode; one that cannot be fixed here is quarantined."""
        mode = self._mode(code)
        if mode == "fix" and fault.fixed is not None:
            self.sample = fault.fixed
            self.fixed = [*self.fixed, code]
        elif mode == "drop":
            raise _StoppedError(Dropped(self.sample, code))
        elif mode == "fail":
            raise InputError(f"{code}, and its mode is fail: {fault.message}")
        elif mode != "keep":
            raise _StoppedError(quarantine(self.sample, code, fault.message))

    def measure(self, seconds: float) -> None:
        """Replace the media by their measured form, rewritten where a fault of storage is to be fixed."""
        for place, declared in enumerate(self.sample.media):
            try:
                with within(seconds, declared):
                    measured, facts = inspected(declared)
                    rewritten = [code for code in REWRITTEN if code in facts and self._mode(code) == "fix"]
                    if rewritten:
                        measured, _ = inspected(Media("image", bytes=plain_png(declared)))
            except MediaError as error:
                self.meet(error.reason, Fault(str(error)))
                return  # never reached: a file that does not decode cannot be kept
            for code, message in facts.items():
                self.meet(code, Fault(message, self._with(place, measured)))
            self.sample = self._with(place, measured)
            for code, message in declared_faults(declared, measured):
                self.meet(code, Fault(message, rescaled(self.sample, declared) if code == "size_mismatch" else None))

    def _mode(self, code: str) -> Mode:
        return self._modes.get(code, CHECKS[code].mode)

    def _with(self, place: int, media: Media) -> Sample:
        items = self.sample.media
        return replace(self.sample, media=(*items[:place], media, *items[place + 1 :]))


@stream
def unique_ids(samples: Iterator[Sample]) -> Iterator[Sample | Dropped | Quarantined]:
    """Quarantine samples (`duplicate_id`) whose `meta.id` belongs to a sample of their source with another question.

    A sample that repeats another one is dropped (`same_sample`).
    """
    seen: dict[tuple[str, str], str] = {}
    for sample in samples:
        name = sample.meta.get("id")
        key = (sample.source, sample.id if name is None else dumps(name))
        if key not in seen:
            seen[key] = sample.id
            yield sample
        elif seen[key] == sample.id:
            yield Dropped(sample, "same_sample")
        else:
            yield quarantine(sample, "duplicate_id", f"another sample of the source has the id {name!r:.80}")
