"""The score that picks the best checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from visionmtl.metrics.multitask import Results
from visionmtl.types import TaskSpec


def validation_score(results: Results, tasks: Sequence[TaskSpec]) -> float:
    """The mean over tasks of one share in percent; higher is better.

    The best checkpoint is chosen by it. The shares are semseg ``miou``, depth and disparity
    ``delta1``, normals ``within_22.5``, detection ``map``, saliency ``max_f`` and edge ``ods_f``:
    all in 0..100, so that no task outweighs the others by its unit. Tasks that are nan (not
    annotated in the split) are left out; a prediction that is not finite fails the shares and
    lowers the score. Nan where all tasks are nan.
    """
    known = []
    for task in tasks:
        share = float(results[task.name][task.kind.metric.score_key])
        if not math.isnan(share):
            known.append(share)
    if not known:
        return math.nan
    return fmean(known)
