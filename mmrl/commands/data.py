"""`mmrl data`, also `python -m data_engine`: build, plan, show, stats, index, leaks, difficulty, push,
export, lint-boxes, pairs, steps, score."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from mmrl.commands import new_app
from mmrl.commands.own_answers import pairs, score, steps
from mmrl.core.config import InputError, load
from mmrl.core.files import check_writable, write_atomic

app = new_app("Build, look at and check datasets.")
app.command()(pairs)
app.command()(steps)
app.command()(score)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, as in configs/data/.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", help="Changes to the recipe.")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A dataset directory.")]
EngineName = Annotated[
    Literal["local", "ray"], typer.Option(help="What runs the per-sample stages: local, or ray for Ray Data.")
]
Split = Annotated[str | None, typer.Option(help="Only samples of this split.")]


@app.command()
def build(
    recipe: RecipeFile,
    overrides: Overrides = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes for the per-sample stages; 0: this one.")
    ] = os.cpu_count() or 1,
    engine: EngineName = "local",
    out: Annotated[Path | None, typer.Option(help="Where to write; default: the recipe's output.")] = None,
) -> None:
    """Build the dataset of RECIPE; a dataset that is already there is replaced when the new one is complete.

    A build that was stopped, in whatever way, resumes where it stopped when the command is run again.
    """
    from data_engine.engine.pipeline import run, stages_folder
    from data_engine.engine.progress import Bars
    from data_engine.recipe import Recipe
    from mmrl.commands.terminal import count_table, mix_note

    written = load(Recipe, recipe, overrides)
    try:
        with Bars(Console(stderr=True)) as bars:
            counts = run(written, out=out, workers=workers, engine=engine, progress=bars)
    except KeyboardInterrupt:
        if place := out or written.output:
            typer.echo(f"what is done is kept in {stages_folder(written, place)}", err=True)
        raise
    console = Console()
    for name, counter in counts.as_dict().items():
        if counter:
            console.print(count_table(name, counter))
    place = out or written.output
    if note := mix_note(written.mix, counts.kept, counts.dropped):
        console.print(note, markup=False, soft_wrap=True)
    if counts.quarantined:
        console.print(f"broken samples: mmrl data show {place} --quarantine", markup=False, soft_wrap=True)
    console.print(f"{place}: {counts.kept.total():,} samples, see {place}/report.html", markup=False, soft_wrap=True)


@app.command()
def plan(
    recipe: RecipeFile,
    overrides: Overrides = None,
    engine: EngineName = "local",
    measure: Annotated[
        int | None,
        typer.Option(
            min=0, help="Samples of each source that are tried to estimate the cost; default: 32, 0 for code not ours."
        ),
    ] = None,
) -> None:
    """Print what RECIPE will do, what it decodes and what that costs; nothing is written.

    Every unknown name and option, and what the engine cannot run, is reported before any work starts. Code that the
    recipe names and that is not ours is imported, but it runs only with --measure.
    """
    from data_engine.engine.cost import measure_costs
    from data_engine.recipe import Recipe, foreign
    from data_engine.recipe import plan as planned
    from mmrl.commands.terminal import cost_table, fitted, plan_table

    written = load(Recipe, recipe, overrides)
    named = foreign(written)
    tried = measure if measure is not None else 0 if named else 32
    steps = planned(written, engine=engine, run=tried > 0)
    console = Console()
    console.print(plan_table(steps, engine, written.output))
    if tried:
        console.print(fitted(console, cost_table(*measure_costs(steps, tried)), "MB", "media opened"))
    elif named:
        note = f"not measured, as that would run {', '.join(named)}; --measure 32 does"
        console.print(note, markup=False, soft_wrap=True)


@app.command("list")
def list_names() -> None:
    """List the sources and operators of recipes, and the checks of the operator `validate`."""
    from mmrl.commands.names import list_data

    list_data()


@app.command()
def show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset directory, or a name from `list`.")],
    n: Annotated[int, typer.Option(min=1, help="How many samples.")] = 5,
    split: Split = None,
    task: Annotated[str | None, typer.Option(help="Only samples of this task.")] = None,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Show the broken rows instead, with the reasons.")
    ] = False,
) -> None:
    """Show samples of a dataset, or what its quarantine holds; or a source, operator or check in full."""
    from data_engine.dataset.shards import read_manifest, read_samples
    from mmrl.commands.names import data_names, show_data
    from mmrl.commands.terminal import quarantine_panel, quarantine_rows, sample_panel

    if not directory.exists() and str(directory) in data_names():
        print(show_data(str(directory)))
        return
    read_manifest(directory)
    if quarantine and (split or task):
        raise InputError("--quarantine cannot be combined with --task or --split: broken rows have neither")
    samples = (sample for sample in read_samples(directory, split=split) if task in (None, sample.task))
    panels = map(quarantine_panel, quarantine_rows(directory)) if quarantine else map(sample_panel, samples)
    console = Console()
    for panel in itertools.islice(panels, n):
        console.print(panel)


@app.command()
def stats(
    directory: Directory,
    split: Split = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Such as entropy>=3: show what it would keep; repeatable."),
    ] = None,
) -> None:
    """Count the samples of a dataset by task, source and split; show how its measures are spread.

    With --keep, show what other thresholds would keep. Nothing is measured again: the build stored all measures.
    """
    from data_engine.dataset.shards import read_samples, shards_of
    from data_engine.measure.measures import condition
    from mmrl.commands.terminal import fitted, stats_tables
    from mmrl.commands.thresholds import keep_table, measure_table, measures_of, reuse_table

    conditions = [condition(text) for text in keep or ()]
    shards = shards_of(directory, split)
    console = Console()
    kept, dropped = measures_of(directory, split)
    if conditions:
        console.print(keep_table(kept, dropped, conditions, split))
        return
    for table in stats_tables(read_samples(directory, split=split)):
        console.print(table)
    console.print(reuse_table(directory, shards))
    measures = measure_table(kept, dropped)
    if measures.row_count:
        console.print(fitted(console, measures, "from smallest to largest", "5 %", "95 %", "of"))


@app.command()
def index(
    benchmarks: Annotated[
        list[str],
        typer.Argument(metavar="BENCHMARK...", help="Datasets that are benchmarks, or NAME=FILE of `mmrl eval run`'s."),
    ],
    out: Annotated[Path, typer.Option(help="The folder for the fingerprint files, one per benchmark.")],
    split: Split = None,
) -> None:
    """Write the fingerprints of benchmarks, for the operator `decontaminate`: hashes, no pictures and no questions."""
    from data_engine.similar.index import write_index
    from mmrl.commands.benchmarks import benchmark_name, benchmark_samples

    named: dict[str, str] = {}
    for benchmark in benchmarks:
        called = benchmark_name(benchmark)
        if named.setdefault(called, benchmark) != benchmark:
            raise InputError(
                f"{named[called]} and {benchmark} would both be written to a file called {called}; rename one of them"
            )
    for benchmark in benchmarks:
        with benchmark_samples(benchmark, split) as (name, samples):
            file = out / f"{name}.parquet"
            count = write_index(samples, name, file)
        Console().print(f"{file}: {count:,} samples", markup=False, soft_wrap=True)


@app.command()
def leaks(
    directory: Directory,
    against: Annotated[list[Path], typer.Option(help="A fingerprint file; may be given several times.")],
    text: Annotated[float, typer.Option(min=0.01, max=1, help="Share of word triples from which texts match.")] = 0.5,
    n: Annotated[int, typer.Option(min=0, help="How many matched pairs of each benchmark to list.")] = 20,
    split: Split = None,
    to: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write counts and pairs.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with the pairs.")] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="A benchmark, as for `index`, to show its side of the pairs on the page.")
    ] = None,
) -> None:
    """List the samples of a dataset that share pictures, questions or ids with benchmarks; nothing is changed."""
    import json
    from contextlib import ExitStack

    from data_engine.dataset.shards import read_samples
    from data_engine.similar.index import LeakIndex
    from data_engine.similar.report import leakage, leakage_table, pairs_table
    from mmrl.commands.benchmarks import benchmark_samples
    from mmrl.pages.leak_page import leak_page

    for file in filter(None, (to, html)):
        check_writable(file)
    leakages = leakage(read_samples(directory, split=split), LeakIndex(against), text=text)
    console = Console()
    console.print(leakage_table(leakages))
    console.print(pairs_table(leakages, n) if any(entry.pairs for entry in leakages) else "no leaks")
    if to:
        write_atomic(to, json.dumps([entry.as_dict() for entry in leakages], indent=1, ensure_ascii=False) + "\n")
    if html:
        wanted = {pair.leak.id for entry in leakages for pair in entry.pairs}
        with ExitStack() as opened:  # pictures of named benchmarks are on disk only that long
            given = [opened.enter_context(benchmark_samples(name, None)) for name in benchmark or ()]
            originals = {sample.id: sample for _, samples in given for sample in samples if sample.id in wanted}
            leak_page(leakages, originals, html)
        console.print(f"page with the pairs in {html}", markup=False, soft_wrap=True)


@app.command()
def difficulty(
    source: Annotated[
        Path, typer.Argument(metavar="WHAT", help="A config, or the `out` directory of an `mmrl eval run`.")
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The file; default: difficulty.parquet next to the records.")] = None,
    reward: Annotated[str | None, typer.Option(help="The reward that decides, if there are several.")] = None,
) -> None:
    """Measure how hard samples are for a model, by scored answers; for the operator `difficulty`.

    With a config, the model answers, more often where that matters. With a run, its records are counted; only
    `reward` and `right` can be set.
    """
    import json

    from data_engine.measure.difficulty_table import write_difficulty
    from eval.difficulty import DifficultyConfig, RunOptions, measured, of_run
    from eval.distributed import Processes
    from mmrl.commands.terminal import difficulty_table, fitted

    changes = [*(overrides or ()), *([f"reward={json.dumps(reward)}"] if reward else [])]
    if source.is_dir():
        counting = load(RunOptions, None, changes)
        rows = of_run(source, counting.reward, counting.right)
        place = out or source / "difficulty.parquet"
    else:
        config = load(DifficultyConfig, source, changes)
        rows = measured(config)
        place = out or Path(config.out) / "difficulty.parquet"
    if not Processes().main:
        return  # of several processes one writes the file
    write_difficulty(rows, place)
    console = Console()
    console.print(fitted(console, difficulty_table(rows), "truncated", "no score", "draws", "mean"))
    console.print(f"{place}: {len(rows):,} samples", markup=False, soft_wrap=True)


@app.command()
def push(
    directory: Directory,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Where on the hub: name/dataset.")],
    public: Annotated[bool, typer.Option("--public", help="For everybody to see; default: private.")] = False,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Also upload broken samples, as sources wrote them.")
    ] = False,
) -> None:
    """Upload a dataset to the Hugging Face hub. No other command uploads anything."""
    from data_engine.dataset.push import push as pushed

    address = pushed(directory, repo, private=not public, quarantine=quarantine)
    Console().print(f"{directory} is at {address}", markup=False, soft_wrap=True)


@app.command()
def export(
    directory: Directory,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="coco, llava, ms_swift or trl.")],
    out: Annotated[Path, typer.Option(help="The new folder to write.")],
    split: Split = None,
) -> None:
    """Write a dataset in the files of another program: COCO, LLaVA, ms-swift or TRL.

    The sources coco, conversations, ms_swift and trl read them back. What a format cannot hold is counted.
    """
    from data_engine.dataset.export import export as exported
    from data_engine.dataset.export import summary

    for line in summary(exported(directory, out, to, split), out, to):
        Console().print(line, markup=False, soft_wrap=True)


@app.command("lint-boxes")
def lint_boxes(
    directory: Directory,
    max_pixels: Annotated[int, typer.Option(min=1, help="The budget that `resized` refers to.")] = 1280 * 28 * 28,
    factor: Annotated[int, typer.Option(min=2, help="Pixels a side of a vision token, as 28 or 32.")] = 28,
) -> None:
    """Find the coordinate space in which the gold boxes of a dataset are really written."""
    from mmrl.commands.lint_boxes import fits, gold_boxes, over_edge, verdict
    from mmrl.core.config import validate
    from mmrl.core.vision import VisionBudget, VisionGeometry

    limits = {"max_pixels": max_pixels, "min_pixels": min(max_pixels, 4 * factor * factor)}
    budget = validate(VisionBudget, limits, where="lint-boxes")
    gold = gold_boxes(directory)
    if not gold:
        raise InputError(f"{directory} has no gold boxes")
    candidates = fits(gold, budget, VisionGeometry(patch=factor // 2, merge=2, temporal_patch=2), over_edge(directory))
    table = Table("space", "boxes", "inside the image", "large enough", "reach", "possible")
    for fit in candidates:
        numbers = (f"{fit.boxes:,}", f"{fit.inside:.1%}", f"{fit.plausible:.1%}", f"{fit.reach:.2f}")
        table.add_row(fit.space, *numbers, "yes" if fit.possible else "no")
    console = Console()
    console.print(table)
    console.print(verdict(candidates, gold), markup=False, soft_wrap=True)
