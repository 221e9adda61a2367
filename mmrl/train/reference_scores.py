"""`mmrl data score CONFIG`: how answers of a policy to each prompt score, and the gold answer, noted in the dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_engine.dataset.shards import read_manifest, read_samples
from data_engine.dataset.tables import stats_row
from data_engine.dataset.writer import DEFAULT_SPLIT, DatasetWriter, check_place
from data_engine.schema import Sample
from eval.difficulty import DrawnConfig, DrawnRun, by_item, opened, scores_of
from eval.distributed import Processes
from eval.generation import Draw, Generation, Sampling
from eval.records import Record, write_run
from eval.run import evaluate, prepare
from mmrl.core.locks import alone
from mmrl.core.vision import CoordinateSpace, Size
from mmrl.grpo.estimator_data import DEMONSTRATION_SCORES
from mmrl.trainers.targets import can_be_written, check_answers, rendered
from rewards.composed.shaping import REFERENCE_SCORES

GOLDS = "demonstrations"  # the folder of the gold answers' records, below the run's `out`
SCORED, AS_THEY_WERE = "scored", "as they were"
NO_SCORE = "left out: no answer has a score"


class ScoreConfig(DrawnConfig):
    """`mmrl data score`: an evaluation with several draws of each sample, and the dataset that gets their scores.

    `sampling.samples` is the number of answers to each prompt (PAR: up to ten, one is nearly as good). The scores of
    the reward that decides become `meta.reference_scores`. `demonstrations` scores the gold answers as well, by every
    reward, into `meta.demonstration_scores`. `dataset` is the directory to write. The rest is that of a DrawnConfig.
    """

    sampling: Sampling = Sampling(do_sample=True, samples=4)
    demonstrations: bool = False
    dataset: str


def write_scored(config: ScoreConfig) -> Counter[str]:
    """Draw and score as `config` says and write the dataset; an interrupted run is resumed.

    Returns how many samples are in it with scores (`SCORED`) and without (`AS_THEY_WERE`: those of other splits and
    tasks), and how many of those drawn are left out because no answer has a score. Samples beyond `data.limit` are left
    out as well.
    """
    check_place(config.dataset, read=config.data.path, used=config.out)
    processes, out = Processes(), Path(config.out)
    with alone(out, needed=processes.main):
        run = opened(config, processes)
        count = config.sampling.samples
        records = run.drawn([Draw(sample, number) for sample in run.samples for number in range(count)])
        notes: dict[str, dict[str, Any]] = {sample.id: {} for sample in run.samples}
        ours = [record for record in records if record.item_id in notes and record.draw < count]  # `out` may hold more
        for name, drawn in by_item(ours).items():
            if scores := scores_of(drawn, run.deciding[drawn[0].task]):
                notes[name][REFERENCE_SCORES] = scores
        for record in _demonstrated(run, ours) if config.demonstrations else ():
            scores = {reward: score for reward, score in record.scores.items() if score is not None}
            notes[record.item_id][DEMONSTRATION_SCORES] = scores
        if not processes.main:
            return Counter()
        write_run(out, replace(run.info, planned=len(records)))
        return _written(config, notes, run.info.protocol.get("prompt", {}))


def _written(config: ScoreConfig, notes: Mapping[str, dict[str, Any]], prompt: Mapping[str, Any]) -> Counter[str]:
    source, place, counts = config.data.path, Path(config.dataset), Counter[str]()
    manifest = read_manifest(source)
    with DatasetWriter(place, name=place.name, embed_media=manifest["media"]["embedded"]) as writer:
        origin = manifest.get("origin") or {"sources": [], "operators": []}
        writer.explain(origin={**origin, "prompt": prompt}, mix=manifest.get("mix", []))  # asked alike in training
        for sample in read_samples(source):
            drawn = sample.meta.get("split", DEFAULT_SPLIT) == config.data.split
            if not drawn or (config.tasks is not None and sample.task not in config.tasks):
                writer.add(sample)
                counts[AS_THEY_WERE] += 1
            elif REFERENCE_SCORES in notes.get(sample.id, {}):
                writer.add(replace(sample, meta={**sample.meta, **notes[sample.id]}))
                counts[SCORED] += 1
            elif sample.id in notes:
                writer.drop(NO_SCORE, stats_row(sample, config.data.split))
                counts[NO_SCORE] += 1
        writer.account(counts.total(), {NO_SCORE: counts[NO_SCORE]} if counts[NO_SCORE] else {})
    return counts


def _demonstrated(run: DrawnRun, records: Sequence[Record]) -> list[Record]:
    """Records of the gold answers, written as SFT teaches them, in a folder of their own."""
    samples = [sample for sample in run.samples if can_be_written(sample.task)]
    check_answers(samples)
    seen = {record.item_id: [(width, height) for width, height in record.seen_size] for record in records}
    draws, out = [Draw(sample) for sample in samples], Path(run.config.out, GOLDS)
    info = replace(run.info, model=GOLDS, protocol={**run.info.protocol, "demonstrations": True}, planned=len(draws))
    if run.processes.main:
        info = prepare(out, info, run.suite)
    run.processes.wait()
    golds = Demonstrations(seen, run.config.space)
    shared = {"batch_size": run.config.batch_size, "processes": run.processes}
    found = evaluate(golds, draws, run.split, run.suite, info, out, **shared)
    return [record for record in found if record.item_id in seen]


class Demonstrations:
    """Answers draws with the gold answers; `seen` is how the policy saw the media, by the sample's id."""

    def __init__(self, seen: Mapping[str, Sequence[Size]], space: CoordinateSpace) -> None:
        self.seen, self.space = seen, space

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """The gold answers."""
        return [self._answer(draw.sample) for draw in draws]

    def cost(self, sample: Sample) -> int:
        """Nothing is computed, so all prompts cost the same."""
        return 1

    def _answer(self, sample: Sample) -> Generation:
        row = {name: getattr(sample, name) for name in ("id", "task", "answer", "media", "meta")}
        sizes = tuple(self.seen[sample.id])
        return Generation(rendered(row, self.space, sizes), 0, False, sizes)
