"""`engine: vllm` gives the answers of `engine: local`, and `engine: openai` does not show videos as something else."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from eval.config import EvalConfig
from eval.records import read_run
from eval.run import run
from mmrl.core.config import InputError, validate
from tests.conftest import TEXTS
from tests.eval.test_backends import chat, config, served
from tests.support.engine_server import COMMAND
from tests.support.judge_server import serving


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mmrl.model.tiny_twins import tiny_model

    place = tmp_path_factory.mktemp("model")
    for part in tiny_model("qwen2_5_vl", TEXTS):
        part.save_pretrained(place)
    return place


def test_vllm_answers_as_the_model_in_this_process(dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Text, pictures, several pictures, a video, and with the media left out; the server is started once."""
    for blind in (False, True):
        asked: dict[str, Any] = {"model": str(checkpoint), "blind": blind}
        own = run(config(dataset, tmp_path / f"local{blind}", **asked))
        vllm = {"engine": "vllm", "vllm": {"command": COMMAND}}
        theirs = run(config(dataset, tmp_path / "vllm" / str(blind), **asked, **vllm))
        assert {record.task for record in own} == {"text", "grounding", "count", "temporal", "yesno"}
        own, theirs = (sorted(records, key=attrgetter("item_id")) for records in (own, theirs))
        for one, other in zip(own, theirs, strict=True):
            assert (one.response, one.tokens, one.flags) == (other.response, other.tokens, other.flags)
            assert (one.seen_size, one.scores) == (other.seen_size, other.scores)
    assert read_run(tmp_path / "vllm" / "True").protocol["engine"] == "vllm"


def test_sampled_answers_differ_and_are_repeated(dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    sampling = {"do_sample": True, "samples": 2, "max_new_tokens": 8}
    asked = {"model": str(checkpoint), "sampling": sampling, "engine": "vllm", "vllm": {"command": COMMAND}}
    first, again = (run(config(dataset, tmp_path / name, **asked)) for name in ("a", "b"))
    assert [record.response for record in first] == [record.response for record in again]
    assert len({record.response for record in first}) == len(first)


def test_a_video_is_not_shown_as_pictures_by_accident(dataset: Path, tmp_path: Path) -> None:
    with serving(lambda body: chat("7")) as server:
        with pytest.raises(InputError, match=r"sample .* shows a video; engine openai can only send its frames"):
            run(config(dataset, tmp_path / "a", **served(server.url, videos="refused")))
        assert not server.bodies
        assert len(run(config(dataset, tmp_path / "b", **served(server.url, videos="frames")))) == 5
        assert len(run(config(dataset, tmp_path / "c", **served(server.url, videos="refused"), blind=True))) == 5
    assert read_run(tmp_path / "b").protocol["server"]["videos"] == "frames"


def test_a_block_vllm_goes_with_its_engine(dataset: Path, tmp_path: Path) -> None:
    values = config(dataset, tmp_path, model="m").model_dump(mode="json") | {"vllm": {}}
    with pytest.raises(InputError, match="engine local with a block vllm, which goes with engine: vllm"):
        validate(EvalConfig, values, where="config")
