"""The recipes of the project: one plans without a network, one reads every format and builds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.dataset.card import front_matter
from data_engine.dataset.shards import read_manifest, read_samples
from data_engine.dataset.tables import QUARANTINE, STATS
from data_engine.engine.pipeline import run
from data_engine.recipe import Recipe, plan
from data_engine.sources import SOURCES
from mmrl.core.config import InputError, load
from tests.data_engine.test_pipeline import counting, digests, recipe
from tests.support.formats import write_formats

CONFIGS = Path(__file__).parents[2] / "configs" / "data"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `offline.yaml`."""
    folder = tmp_path_factory.mktemp("offline")
    write_formats(folder)
    run(load(Recipe, CONFIGS / "offline.yaml", [f"root={folder}"]), out=folder / "out")
    return folder / "out"


def test_the_mixed_recipe_plans_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = load(Recipe, CONFIGS / "mixed.yaml", [f"root={tmp_path}"])
    for source in made.sources:
        for path in source.args.values():
            if source.fn != "hub" and isinstance(path, str) and "/" in path:
                place = tmp_path / path
                place.mkdir(parents=True, exist_ok=True) if not place.suffix else _touch(place)
    planned = plan(made)
    assert [source.spec.args["repo"] for source in planned.sources if source.spec.fn == "hub"] == [
        "HuggingFaceM4/A-OKVQA",
        "derek-thomas/ScienceQA",
        "HuggingFaceM4/ChartQA",
        "hiyouga/geometry3k",
        "lmms-lab/textvqa",
    ]
    assert planned.stages[0].name == "validate"


def _touch(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()


def test_every_format_is_built_offline(built: Path) -> None:
    manifest = read_manifest(built)
    missing = SOURCES.keys() - {"hub"} - manifest["sources"].keys()
    assert not missing, f"configs/data/offline.yaml: add {sorted(missing)}; tests/support/formats.py: write the files"
    counts = manifest["counts"]
    assert counts["quarantined"] == {"no_task": 1}
    assert counts["in"] == counts["kept"] + sum(counts["dropped"].values()) + 1
    assert counts["dropped"]["near_duplicates: near_duplicate"] == 2
    assert pq.read_schema(built / "stats.parquet").names == STATS.names
    assert pq.read_schema(built / "quarantine" / "part-00000.parquet") == QUARANTINE
    (refused,) = pq.read_table(built / "quarantine").to_pylist()
    assert refused["where"] == "rows.jsonl:3"
    stats = pq.read_table(built / "stats.parquet").to_pylist()
    assert {row["id"]: row["split"] for row in stats} == {
        sample.id: sample.meta["split"] for sample in read_samples(built)
    }
    assert len(stats) == counts["kept"]


def test_the_manifest_names_the_files_read_and_the_code(built: Path) -> None:
    origin = read_manifest(built)["origin"]
    read = {source["name"]: source for source in origin["sources"]}
    (table,) = read["jsonl"]["inputs"]
    assert table["path"] == "rows.jsonl"
    assert len(table["sha256"]) == 64
    assert read["jsonl"]["licence"] == "cc-by-4.0"
    assert [file["path"] for file in read["refcoco"]["inputs"]] == ["instances.json", "refs(unc).p"]
    assert [operator["fn"] for operator in origin["operators"]][:3] == ["validate", "measure", "verifiable"]
    assert all(len(operator["version"]) == 12 for operator in origin["operators"])
    for file in ("manifest.json", "card.md", "report.html"):
        assert str(built.parent) not in (built / file).read_text()


def test_the_card_is_one_of_the_hub_and_the_dataset_loads_by_it(built: Path, tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(built / "card.md").data.to_dict()
    assert card == front_matter(read_manifest(built))
    assert set(card["license"]) == {"bsd-3-clause", "cc-by-4.0", "cc0-1.0", "mit", "unknown"}
    assert card["size_categories"] == ["n<1K"]
    files = {entry["split"]: str(built / entry["path"]) for entry in card["configs"][0]["data_files"]}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in loaded.items()} == read_manifest(built)["splits"]
    assert yaml.safe_load((built / "card.md").read_text().split("---")[1]) == card


def test_the_report_shows_repeats_side_by_side_and_escapes_what_data_says(built: Path, tmp_path: Path) -> None:
    page = (built / "report.html").read_text()
    assert page.count("near_duplicates</h3>") == 2
    assert "<script" not in page
    assert page.count("data:image/jpeg;base64,") > 20
    assert "near_duplicates: near_duplicate" in page
    Image.fromarray(load_sample_image("china.jpg")[:60, :60]).save(tmp_path / "a.png")
    row = {"question": "<script>alert(1)</script>?", "image": "a.png", "task": "yesno", "answer": "yes"}
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({**row, "answer": label}) for label in ("yes", "yes", "no"))
    )
    sources = [{"fn": "jsonl", "args": {"path": "rows.jsonl"}, "name": "<b>rows"}]
    operators = [{"fn": "validate"}, {"fn": "exact_duplicates"}]
    run(recipe(sources=sources, operators=operators, root=tmp_path), out=tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>" not in page
    assert page.count("exact_duplicates</h3>") == 2
    assert page.count("data:image/jpeg") == 1 + 2 * 2  # the sample, and twice a pair


def test_requested_and_achieved_stand_side_by_side(tmp_path: Path) -> None:
    sources = [
        {"fn": "tests.support.lab:numbers", "args": {"n": n}, "name": name} for name, n in (("a", 90), ("b", 31))
    ]
    operators = [{"fn": "validate"}, {"fn": "quota", "args": {"n": 40, "by": "source", "shares": {"a": 1, "b": 3}}}]
    run(recipe(sources=sources, operators=operators), out=tmp_path / "out")
    (mix,) = read_manifest(tmp_path / "out")["mix"]
    shares = {"by": "source", "requested": {"a": 0.25, "b": 0.75}, "achieved": {"a": 10 / 40, "b": 30 / 40}}
    assert mix == {**shares, "requested_samples": {"a": 10, "b": 30}, "achieved_samples": {"a": 10, "b": 30}}
    assert "| a | 25.00% | 25.00% |" in (tmp_path / "out" / "card.md").read_text()
    assert "75.00%" in (tmp_path / "out" / "report.html").read_text()


def test_media_inside_the_shards_when_the_recipe_says_so(built: Path, tmp_path: Path) -> None:
    made = load(Recipe, CONFIGS / "offline.yaml", [f"root={built.parent}", "embed=true"])
    run(made, out=tmp_path / "out")
    assert not (tmp_path / "out" / "media").exists()
    assert [sample.id for sample in read_samples(tmp_path / "out")] == [sample.id for sample in read_samples(built)]
    assert digests(tmp_path / "out") != digests(built)


@pytest.mark.parametrize(
    ("operator", "engine", "message"),
    [
        ("homely", "ray", "operator homely does not run on the engine ray, but on local"),
        ("generous", "local", "operator generous is a generator, but @each is for"),
    ],
)
def test_what_an_engine_cannot_run_is_refused_before_any_work(operator: str, engine: str, message: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=message):
        plan(counting(operator), engine=engine)  # pyright: ignore[reportArgumentType]
    plan(counting("homely"))


def test_a_shard_of_another_schema_is_named_with_its_columns(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    shard = next((out / "shards").glob("*.parquet"))
    table = pq.read_table(shard).drop_columns(["answer"]).rename_columns({"task": "kind"})
    pq.write_table(table, shard)
    with pytest.raises(InputError, match=r"not a table of samples: task is missing, not string; answer is missing"):
        list(read_samples(out))
