"""Training: the loop, its state, and evaluation.

>>> import torch
>>> from visionmtl.data import RoomsDataset, build_transform, make_loader
>>> from visionmtl.models import create_model
>>> dataset = RoomsDataset(2, size=(64, 64), tasks=["depth"])
>>> transform = build_transform(dataset.tasks, [])
>>> loader, _ = make_loader(dataset, dataset.tasks, transform, batch_size=2, train=False)
>>> model = create_model("test_resnet", dataset.tasks)
>>> results = evaluate(model, loader, torch.device("cpu"))
>>> sorted(results["depth"])[:3]
['abs_err', 'abs_rel', 'delta1']
"""

from visionmtl.engine.evaluate import evaluate
from visionmtl.engine.trainer import Trainer

__all__ = ["Trainer", "evaluate"]
