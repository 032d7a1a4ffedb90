"""Pictures of what a sharing scheme has learned."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visionmtl._files import write_atomic
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing.cross_stitch import CrossStitch
from visionmtl.models.sharing.mtan import MTAN
from visionmtl.models.sharing.nddr import NDDR
from visionmtl.models.sharing.stitched import StitchedTrunks
from visionmtl.prediction.infer import network_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 2.6
"""Width of a picture of a mask in inches."""


def draw(
    model: MultiTaskModel, folder: Path, image: np.ndarray | None
) -> tuple[list[Path], list[str]]:
    """Write the pictures of ``model`` as PNG files.

    Args:
        model: in evaluation mode.
        folder: made where it does not exist; files of the same names are replaced.
        image: uint8 (H, W, 3) RGB, on which MTAN's masks are drawn.

    Returns:
        The files, and sentences on what was not drawn and why.
    """
    sharing = model.sharing
    name = model.config["sharing"]
    strides = sharing.backbones[0].strides
    path = folder / f"{name}.png"
    if isinstance(sharing, MTAN):
        if image is None:
            reason = "nothing drawn: mtan's masks are those of an image, give --image FILE"
            return [], [reason]
        _write(_masks_figure(*masks(model, sharing, image), strides), path)
        return [path], []
    left_out = []
    if image is not None:
        left_out.append("--image is not used: only mtan has masks")
    if isinstance(sharing, CrossStitch | NDDR):
        _write(_mixing_figure(mixing(sharing), list(sharing.levels), strides), path)
        return [path], left_out
    reason = f"nothing to draw: {name} sharing attaches nothing to the backbone"
    return [], [reason, *left_out]


def mixing(sharing: StitchedTrunks) -> list[tuple[Tensor, Tensor | None]]:
    """Per stage how much of the features of task j (column) the features of task t (row) take, (T,
    T).

    Cross-stitch: the mean of alpha over the channels, and its standard deviation over them. NDDR:
    the norms of the T x T blocks of the 1 x 1 convolutions, each row divided by its sum because
    batch norm takes out its scale; no deviation.
    """
    units: Any = sharing.units
    if isinstance(sharing, CrossStitch):
        alphas = [unit.alpha.detach() for unit in units]
        return [(alpha.mean(-1), alpha.std(-1, correction=0)) for alpha in alphas]
    stages: list[tuple[Tensor, Tensor | None]] = []
    for unit in units:
        kernels = torch.stack([conv.weight.detach() for conv, _ in unit.reduce.values()])
        tasks, channels = kernels.shape[:2]
        norms = kernels.view(tasks, channels, tasks, channels).norm(dim=(1, 3))
        stages.append((norms / norms.sum(-1, keepdim=True), None))
    return stages


def masks(
    model: MultiTaskModel, sharing: MTAN, image: np.ndarray
) -> tuple[np.ndarray, dict[str, list[Tensor]]]:
    """The image at the size that the network sees, and per task the four masks (h, w), means over
    their channels.

    The masks cover the image and its padding to a multiple of the coarsest stride.
    """
    images = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    size = network_size(image.shape[0], image.shape[1], None, model.input_size)
    images = F.interpolate(images, size, mode="bilinear", antialias=True)
    with torch.inference_mode():
        found = sharing.masks(model.normalise(images))
    seen = images[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
    means = {}
    for task, stages in found.items():
        means[task] = [mask[0].mean(0) for mask in stages]
    return seen, means


def _mixing_figure(
    stages: Sequence[tuple[Tensor, Tensor | None]], tasks: Sequence[str], strides: Sequence[int]
) -> Figure:
    """A heat map per stage, on a colour scale that all have in common and whose middle is 0."""
    from matplotlib.figure import Figure

    side = 1.2 + 0.75 * len(tasks)
    figure = Figure(figsize=(len(stages) * side + 1.5, side + 0.6), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(stages), squeeze=False)[0]
    bound = max(float(mean.abs().max()) for mean, _ in stages)
    for i, (ax, (mean, deviation)) in enumerate(zip(axes, stages, strict=True)):
        shown = ax.imshow(mean.numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound)
        ax.set_title(f"stage {i + 1} (stride {strides[i]})")
        ax.set_xticks(range(len(tasks)), tasks, rotation=45, ha="right")
        ax.set_yticks(range(len(tasks)), [""] * len(tasks))
        _write_values(ax, mean, deviation, bound)
    axes[0].set_yticks(range(len(tasks)), tasks)
    axes[0].set_ylabel("features of")
    figure.supxlabel("drawn from")
    figure.colorbar(shown, ax=axes, shrink=0.8)
    return figure


def _write_values(ax: Axes, mean: Tensor, deviation: Tensor | None, bound: float) -> None:
    for row, values in enumerate(mean.tolist()):
        for column, value in enumerate(values):
            colour = "black"
            if abs(value) > 0.6 * bound:
                colour = "white"
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
            ax.text(column, row, f"{round(value, 2) + 0:.2f}", fontsize=9, **style)
            if deviation is not None:
                spread = f"± {deviation[row, column]:.2f}"
                ax.text(column, row + 0.3, spread, fontsize=6, **style)


def _masks_figure(
    image: np.ndarray, found: dict[str, list[Tensor]], strides: Sequence[int]
) -> Figure:
    """A row per task: the image, and the mask of every stage on a colour scale from 0 to 1."""
    from matplotlib.figure import Figure

    height, width = image.shape[:2]
    columns = 1 + len(strides)
    figure_width = columns * CELL + 1
    figure_height = len(found) * (CELL * height / width + 0.4) + 0.5
    figure = Figure(figsize=(figure_width, figure_height), dpi=120, layout="constrained")
    axes = figure.subplots(len(found), columns, squeeze=False)
    for row, (task, stages) in zip(axes, found.items(), strict=True):
        row[0].imshow(image)
        row[0].set_ylabel(task)
        for ax, mask, stride in zip(row[1:], stages, strides, strict=True):
            h, w = mask.shape
            shown = ax.imshow(
                mask.numpy(), cmap="viridis", vmin=0, vmax=1, extent=(0, w * stride, h * stride, 0)
            )
            ax.set_xlim(0, width)  # leaves the padding out
            ax.set_ylim(height, 0)
            ax.set_xlabel(f"mean {mask.mean():.2f}", fontsize=8)
        for ax in row:
            ax.set_xticks([])
            ax.set_yticks([])
    axes[0][0].set_title("image", fontsize=10)
    for i, stride in enumerate(strides, start=1):
        axes[0][i].set_title(f"stage {i} (stride {stride})", fontsize=10)
    figure.colorbar(shown, ax=axes, shrink=0.6)
    return figure


def _write(figure: Figure, path: Path) -> None:
    data = BytesIO()
    figure.savefig(data, format="png", bbox_inches="tight")  # Agg: no display, no global settings
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data.getvalue())
