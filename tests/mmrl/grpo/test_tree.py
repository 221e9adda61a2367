"""Groups as trees: a branch goes on from a mark in another rollout, as if it had drawn the beginning itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import tensor
from torch.testing import assert_close

from data_engine.schema import Sample
from mmrl.core.config import InputError, load
from mmrl.core.vision import VisionBudget
from mmrl.grpo.engines.tree import Tree
from mmrl.model.sampling import banned, vision_token_ids
from mmrl.pages.rollout_pages import as_page, chosen
from mmrl.train.config import TrainConfig
from mmrl.train.plan import plan
from mmrl.train.stages import check
from tests.mmrl.grpo.test_trainer import Recording, logits_alone, trainer
from tests.support.training import config, material, metrics, rollouts, tiny_policy, trained

TREE = {"after": "e", "branches": 2, "depth": 2}


class Keeping(Recording):
    """Keeps what was drawn."""

    def _drawn(self, prompts: Any, trainer: Any) -> dict[str, Any]:
        self.kept = super()._drawn(prompts, trainer)
        self.of_batch = self.batch
        return self.kept


@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "idefics3"])
def test_a_branch_has_the_log_probs_of_the_whole_rollout(
    architecture: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget, architecture)
    plain, _ = tiny_policy(budget, architecture)
    samples = [sample for sample in mixed_samples if all(item.kind == "image" for item in sample.media)]
    options: dict[str, Any] = {"num_generations": 4, "per_device_train_batch_size": 4 * len(samples)}
    options |= {"max_completion_length": 24, "importance_cap": 2.0, "kind": Keeping, "tree": Tree(**TREE)}
    run = trainer(tmp_path, model, processor, samples, budget, **options)
    run.train()
    never, parted = vision_token_ids(model.config, processor), 0
    drawn, branches = run.kept, run.of_batch.branches
    ids, logprobs = drawn["completion_ids"], drawn["logprobs"]
    for number, (row, branch) in enumerate(zip(run.of_batch.rows, branches, strict=True)):
        logits = logits_alone(plain, row, tensor(ids[number]))
        expected = banned(logits, never).log_softmax(-1).gather(1, tensor(ids[number])[:, None])[:, 0]
        assert_close(tensor(logprobs[number]), expected, atol=1e-4, rtol=0)
        assert branch.draw == (0, 0, 0, 2)[number % 4]
        shared = ids[number - number % 4 + branch.draw][: branch.tokens]
        assert ids[number][: branch.tokens] == shared
        if branch.tokens:
            assert "e" in processor.tokenizer.decode(shared[-1:])
        others = ids[number - number % 4 + branch.draw][branch.tokens :]
        parted += bool(branch.tokens) and ids[number][branch.tokens :] != others
    assert parted >= 2
    line = run.state.log_history[0]
    assert line["tree/branches"] == sum(branch.tokens > 0 for branch in branches) / len(ids)
    assert line["tree/shared"] == sum(branch.tokens for branch in branches) / sum(map(len, ids))


def settings(processes: int, **rollout: Any) -> dict[str, Any]:
    grpo = {"max_completion_length": 24, "num_generations": 4, "max_steps": 1, "save_strategy": "no"}
    grpo |= {"per_device_train_batch_size": 8 // processes, "shuffle_dataset": False}
    return {"grpo": grpo, "rollout": {"tree": TREE} | rollout, "advantages": {"tokens": {"sibling": {}}}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "ti")


def test_two_processes_grow_the_trees_of_one(world: Path, tmp_path: Path) -> None:
    alone = trained(config(world, tmp_path / "one.yaml", **settings(1)))
    both = trained(config(world, tmp_path / "two.yaml", **settings(2)), processes=2)
    (one,), (two,) = metrics(alone), metrics(both)
    assert_close([two[key] for key in ("loss", "grad_norm")], [one[key] for key in ("loss", "grad_norm")])
    (rows,), (others,) = rollouts(alone).values(), rollouts(both).values()
    names = ("id", "draw", "completion", "branch_of", "branch_after")
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in others]
    page = as_page(chosen(alone, step=1, task=None, limit=10))
    shared = [row for row in rows if row["branch_after"]]
    assert len(shared) >= 2
    for row in shared:
        assert f"{row['branch_after']} of them shared with {row['branch_of']}" in page


def test_the_plan_says_how_many_rollouts_are_drawn_whole(world: Path, tmp_path: Path) -> None:
    tables = dict(plan(load(TrainConfig, config(world, tmp_path / "a.yaml", **settings(1)))))
    assert dict(tables["grpo: batch"])["rollouts of a group drawn whole"] == "1"


@pytest.mark.parametrize(
    ("rollout", "why"),
    [
        ({"tree": TREE | {"depth": 3}}, "makes trees of 8 rollouts; grpo.num_generations=4 must be a multiple"),
        ({"tree": TREE | {"branches": 1}}, "rollout.tree.branches"),
        ({"tree": TREE | {"after": ""}}, "rollout.tree.after"),
        ({"tree": TREE | {"value": "letter"}}, "rollout.tree.value: no reward 'letter'; did you mean letters"),
        ({"tree": TREE | {"explore": 2.0}}, "explore is for branches by value"),
        ({"ahead": 1, "engine": "vllm"}, "rollout.tree cannot be combined with rollout.ahead"),
        ({"inject": {}}, "rollout.tree cannot be combined with rollout.inject"),
        ({"temperature": {"schedule": "ead"}}, "rollout.tree cannot be combined with rollout.temperature"),
    ],
)
def test_trees_that_cannot_be_drawn_are_refused(world: Path, tmp_path: Path, rollout: dict[str, Any], why: str) -> None:
    place = config(world, tmp_path / "a.yaml", **{**settings(1, **rollout), "advantages": None})
    with pytest.raises(InputError) as error:
        check(load(TrainConfig, place))
    assert why in str(error.value)
