"""The operators that make sure that samples are whole: `validate`, and `unique_ids`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from data_engine.media.deadline import within
from data_engine.media.source_ids import NOTED, source_ids
from data_engine.operator import Dropped, Quarantined, each, quarantine, stream
from data_engine.schema import Sample
from data_engine.validate.checks import CHECKS, Found, Limits, Mode, Modes
from data_engine.validate.media_checks import declared_faults, extreme_aspect, inspected, rescaled, tiny_side
from data_engine.validate.place_checks import PLACES
from data_engine.validate.text_checks import TEXTS
from data_engine.validate.wellformed import faults
from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from mmrl.core.media.image import plain_png
from mmrl.core.media.item import Media

CHECKED = {"extreme_aspect": extreme_aspect, "tiny_side": tiny_side, **PLACES, **TEXTS}  # in this order
REWRITTEN = ("animated", "image_mode", "alpha", "orientation")  # facts of an image that a plain PNG does not have


@each
def validate(
    sample: Sample, *, modes: Modes | None = None, limits: Limits | None = None
) -> Sample | Dropped | Quarantined:
    """The sample with its media decoded, hashed and measured, unless a check of `data_engine.validate.checks` stops it.

    `modes` says what to do about a fault (code -> keep, drop, quarantine, fix, fail) where it is not the usual, and
    `limits` where some checks begin. `meta.fixed` lists the faults that were mended, `meta.source_ids` the pictures of
    public datasets that the names of the files tell of: a dataset has its media under other names.
    """
    run, limits = _Run(sample, modes or {}), limits or Limits()
    try:
        run.measure(limits.seconds)
        for fault in faults(run.sample, only_prompt=True):
            run.meet(fault.reason, Found(fault.message))
        for code, check in CHECKED.items():
            if isinstance(run.sample.answer, Mapping) and (found := check(run.sample, limits)):
                run.meet(code, found)
        for fault in faults(run.sample):
            run.meet(fault.reason, Found(fault.message))
    except _StoppedError as stopped:
        return stopped.outcome
    named = sorted(source_ids(replace(run.sample, media=sample.media)))
    noted = {**({"fixed": run.fixed} if run.fixed else {}), **({NOTED: named} if named else {})}
    return replace(run.sample, meta={**run.sample.meta, **noted})  # another object: so the pipeline gives it an id


class _StoppedError(Exception):
    """A sample goes no further."""

    def __init__(self, outcome: Dropped | Quarantined) -> None:
        super().__init__()
        self.outcome = outcome


class _Run:
    """A sample on its way through the checks, and which faults were mended."""

    def __init__(self, sample: Sample, modes: Mapping[str, Mode]) -> None:
        self.sample, self.fixed, self._modes = sample, list[str](), modes

    def meet(self, code: str, found: Found) -> None:
        """Do about a fault what its mode says; one that cannot be mended here is quarantined."""
        mode = self._modes.get(code, CHECKS[code].mode)
        if mode == "fix" and found.fixed is not None:
            self.sample = found.fixed
            self.fixed = [*self.fixed, code]
        elif mode == "drop":
            raise _StoppedError(Dropped(self.sample, code))
        elif mode == "fail":
            raise InputError(f"{code}, and its mode is fail: {found.message}")
        elif mode != "keep":
            raise _StoppedError(_quarantined(self.sample, code, found.message))

    def measure(self, seconds: float) -> None:
        """Replace the media by what decoding finds, rewritten where a fault of how they are stored is to be mended."""
        for place, declared in enumerate(self.sample.media):
            try:
                with within(seconds, declared):
                    measured, facts = inspected(declared)
                    rewritten = [code for code in REWRITTEN if code in facts and self._mode(code) == "fix"]
                    if rewritten:
                        measured, _ = inspected(Media("image", bytes=plain_png(declared)))
            except MediaError as error:
                self.meet(error.reason, Found(str(error)))
                return  # never reached: a file that does not decode cannot be kept
            for code, message in facts.items():
                self.meet(code, Found(message, self._with(place, measured)))
            self.sample = self._with(place, measured)
            for code, message in declared_faults(declared, measured):
                self.meet(code, Found(message, rescaled(self.sample, declared) if code == "size_mismatch" else None))

    def _mode(self, code: str) -> Mode:
        return self._modes.get(code, CHECKS[code].mode)

    def _with(self, place: int, media: Media) -> Sample:
        items = self.sample.media
        return replace(self.sample, media=(*items[:place], media, *items[place + 1 :]))


def _quarantined(sample: Sample, code: str, message: str) -> Quarantined:
    """The entry of a sample, with a message that names it once."""
    name = f"{sample.source} sample "
    return (
        replace(quarantine(sample, code, message), why=message)
        if message.startswith(name)
        else quarantine(sample, code, message)
    )


@stream
def unique_ids(samples: Iterator[Sample]) -> Iterator[Sample | Dropped | Quarantined]:
    """Quarantine samples (`duplicate_id`) whose `meta.id` another sample of their source has that asks otherwise.

    One that asks the same as another is dropped (`same_sample`).
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
