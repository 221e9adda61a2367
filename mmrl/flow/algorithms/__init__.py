"""How a policy learns from the pictures it made and their advantages; a file for each algorithm.

To add one: a subclass of `Algorithm` with its options and its loss, an entry in `ALGORITHMS`, and a test. `Consistency`
alone makes no pictures: it has a trainer of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrl.core.config import InputError, nearest, validate
from mmrl.flow.algorithms.base import Algorithm
from mmrl.flow.algorithms.consistency import Consistency
from mmrl.flow.algorithms.crd import Crd
from mmrl.flow.algorithms.dense_grpo import DenseGrpo
from mmrl.flow.algorithms.flow_grpo import FlowGrpo
from mmrl.flow.algorithms.prdp import Prdp

ALGORITHMS: dict[str, type[Algorithm] | type[Consistency]] = {
    "crd": Crd,
    "flow_grpo": FlowGrpo,
    "dense_grpo": DenseGrpo,
    "prdp": Prdp,
    "consistency": Consistency,
}


def algorithm_of(name: str, options: Mapping[str, Any]) -> Algorithm | Consistency:
    """The algorithm of that name with its options; InputError for a wrong one."""
    if name not in ALGORITHMS:
        raise InputError(f"flow.algorithm={name!r}; {nearest(name, ALGORITHMS)}")
    return validate(ALGORITHMS[name], options, where=f"flow.options of {name}")
