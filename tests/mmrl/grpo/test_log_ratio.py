"""RTO: what a policy after DPO finds likelier than before it is added to the advantage of each token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget
from mmrl.grpo.credit import Credit
from tests.mmrl.grpo.test_credit import SPANS, Keeping, alone
from tests.mmrl.grpo.test_trainer import trainer
from tests.mmrl.test_dpo import moved
from tests.support.training import tiny_policy


def saved(model: Any, processor: Any, place: Path) -> str:
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return str(place)


def test_tokens_that_dpo_made_likelier_gain(mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path) -> None:
    """By the log-probs of each row alone, on texts, pictures and a clip; no more than the clip."""
    before, processor = tiny_policy(budget, "qwen2_5_vl")
    reference = saved(before, processor, tmp_path / "before")
    after, _ = tiny_policy(budget, "qwen2_5_vl")
    settings = {"reference": reference, "policy": saved(moved(after), processor, tmp_path / "after")}
    credit = Credit.model_validate({"log_ratio": {**settings, "scale": 0.5, "clip": 0.1}})
    run = trainer(
        tmp_path / "run", *tiny_policy(budget), mixed_samples, budget, kind=Keeping, suite=SPANS, credit=credit
    )
    run.train()
    kept = run.kept
    sizes = set()
    for row, (ids_C, mask_C) in enumerate(zip(kept["completion_ids"], kept["completion_mask"].bool(), strict=True)):
        ids = ids_C[mask_C]
        (_, likely), (_, was) = (alone(model, kept["rows"][row], ids) for model in (after, before))
        gap = (likely - was).gather(1, ids[:, None])[:, 0].double()
        added = kept["per_token"][row].double() - kept["advantages"][row].double()
        assert_close(added[mask_C], (0.5 * gap).clamp(-0.1, 0.1), atol=1e-4, rtol=0)
        assert not added[~mask_C].any()
        sizes |= {round(float(one), 3) for one in added[mask_C]}
    assert len(sizes) > 4
    assert 0 < run.state.log_history[0]["log_ratio/clipped"] < 1


def test_a_checkpoint_of_another_kind_is_refused_before_the_first_step(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    other = saved(*tiny_policy(budget, "idefics3"), tmp_path / "other")
    credit = Credit.model_validate({"log_ratio": {"policy": other, "reference": other}})
    with pytest.raises(InputError, match=r"other is a idefics3 with .* and the policy a qwen2_5_vl with"):
        trainer(tmp_path / "run", *tiny_policy(budget), mixed_samples, budget, kind=Keeping, suite=SPANS, credit=credit)
