"""A decoder with strides of its own: heads get the size of the image right, or refuse it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from visionmtl.models.decoders import DECODERS, Decoder
from visionmtl.models.factory import create_model
from visionmtl.tasks import TaskSpec
from visionmtl.types import Pyramid


class Coarse(Decoder):
    """Gives maps at strides 8 to 64; ``says`` is what it publishes."""

    def __init__(self, in_channels: Sequence[int], *, says: list[int] | None = None) -> None:
        super().__init__(8, says or [8, 16, 32, 64])
        self.lateral = nn.ModuleList(nn.Conv2d(c, 8, 1) for c in in_channels)

    def forward(self, pyramid: Pyramid) -> Pyramid:
        _, p3, p4, p5 = (lateral(c) for lateral, c in zip(self.lateral, pyramid, strict=True))
        return [p3, p4, p5, nn.functional.max_pool2d(p5, 2)]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DECODERS, "_classes", dict(DECODERS))
    DECODERS.register("coarse")(Coarse)


@torch.no_grad()
@pytest.mark.parametrize("sharing", ["hard", "independent", "cross_stitch", "nddr", "mtan"])
@pytest.mark.parametrize("size", [(64, 128), (33, 100), (1, 1)])
def test_dense_predictions_have_the_size_of_the_image(sharing: str, size: tuple[int, int]) -> None:
    tasks = [TaskSpec.depth(), TaskSpec.semseg(["a", "b"])]
    model = create_model("test_resnet", tasks, sharing, "coarse").eval()
    assert model.multiple == 64
    assert "reads strides [8, 16, 32, 64]" in model.summary()
    predictions = model(torch.zeros(2, 3, *size))
    assert predictions["depth"].shape == (2, 1, *size)
    assert predictions["semseg"].shape == (2, 2, *size)


def test_the_detection_head_refuses_it() -> None:
    message = (
        r"^DetectionHead needs a pyramid with strides \[4, 8, 16, 32\], "
        r"the decoder gives \[8, 16, 32, 64\]$"
    )
    with pytest.raises(ValueError, match=message):
        create_model("test_resnet", [TaskSpec.detection(["a"])], decoder="coarse")


def test_a_decoder_that_publishes_other_strides_than_it_gives_is_refused() -> None:
    message = r"^Coarse publishes 8 channels and strides \[4, 8, 16, 32\], that is .*, but gives "
    with pytest.raises(ValueError, match=message):
        create_model(
            "test_resnet",
            [TaskSpec.depth()],
            decoder="coarse",
            decoder_options={"says": [4, 8, 16, 32]},
        )
