"""A data set of one's own, and training on it: ``python examples/train_own_kind.py``.

The same from a config with ``data: {type: painted, train: train, val: val}``:
``visionmtl train CONFIG --plugin examples/train_own_kind.py``.
"""

from collections.abc import Sequence

import numpy as np
import torch
from own_kind import Albedo

from visionmtl import TaskSpec, create_model
from visionmtl.data import DATASETS, DenseTarget, Sample, build_transform, make_loader
from visionmtl.engine import Loaders, Trainer, TrainerOptions, TrainingParts
from visionmtl.losses import Criterion, build_loss
from visionmtl.weighting import ConstantWeighting


@DATASETS.register("painted")
class Painted:
    """Squares of random colours under a light that fades from left to right."""

    def __init__(self, split: str, tasks: Sequence[str] | None = None, *, side: int = 64) -> None:
        self.tasks = [TaskSpec("albedo", Albedo())]
        self.first = {"train": 0, "val": 1000}[split]
        self.side = side

    def __len__(self) -> int:
        return 32

    def sample_id(self, index: int) -> str:
        return f"painting-{self.first + index}"

    def __getitem__(self, index: int) -> Sample:
        colours = np.random.default_rng(self.first + index).random((4, 4, 3), dtype=np.float32)
        albedo = np.kron(colours, np.ones((self.side // 4, self.side // 4, 1), np.float32))
        light = np.linspace(1.0, 0.3, albedo.shape[1])[:, None]
        target = DenseTarget(albedo, np.ones(albedo.shape[:2], bool))
        image = (255 * albedo * light).astype(np.uint8)
        return Sample(image, {"albedo": target}, self.sample_id(index))


def main(epochs: int = 20) -> dict[str, float]:
    """Train on paintings; the metric on others."""
    train_set = Painted("train")
    tasks = train_set.tasks
    transform = build_transform(tasks, [])
    train, sampler = make_loader(train_set, tasks, transform, batch_size=8, train=True)
    val, _ = make_loader(Painted("val"), tasks, transform, batch_size=8, train=False)
    model = create_model("resnet10t", tasks, decoder_options={"channels": 32})
    criterion = Criterion({"albedo": build_loss(tasks[0])})
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    parts = TrainingParts(model, criterion, optimizer, ConstantWeighting(["albedo"]))
    trainer = Trainer(parts, Loaders(train, val, sampler), TrainerOptions(epochs))
    return trainer.fit()["albedo"]


if __name__ == "__main__":
    print(main())
