"""The tables of ``visionmtl inspect``."""

from __future__ import annotations

from rich.table import Table

from visionmtl.analysis.inspect.costs import Cost, Costs, num_parameters
from visionmtl.models.sharing import Sharing


def stages_table(sharing: Sharing) -> Table | str:
    """One row per stage of the backbone with what the scheme attaches to it; a sentence where there
    are no stages.
    """
    backbones = sharing.backbones
    backbone = backbones[0]
    title = f"one backbone, {backbone.name}"
    if len(backbones) > 1:
        title = (
            f"{len(backbones)} backbones {backbone.name}, one per task; "
            "the numbers are those of one"
        )
    if backbone.stages is None:
        channels = ", ".join(map(str, backbone.channels))
        parameters = num_parameters(backbone.parameters())
        return (
            f"{title}: {parameters:,} parameters in one body that cannot be cut into stages, "
            f"and maps of {channels} channels at strides 4, 8, 16, 32"
        )
    table = Table(title=title, title_justify="left")
    for name in ("stage", "stride", "channels", "parameters"):
        table.add_column(name, justify="right")
    table.add_column("what is attached")
    table.add_column("its parameters", justify="right")
    for i, stage in enumerate(backbone.stages):
        parameters = num_parameters(stage.parameters())
        table.add_row(
            f"{i + 1}",
            f"{backbone.strides[i]:,}",
            f"{backbone.channels[i]:,}",
            f"{parameters:,}",
            *_attached(sharing, i),
        )
    return table


def _attached(sharing: Sharing, stage: int) -> tuple[str, str]:
    """What the scheme adds to a stage, and how many parameters that has."""
    words, modules = sharing.attached(stage)
    if not modules:
        return words, "-"
    parameters = sum(num_parameters(module.parameters()) for module in modules)
    return words, f"{parameters:,}"


def costs_table(costs: Costs) -> Table:
    """The whole network against its tasks alone."""
    title = f"one image of {costs.height} x {costs.width}, float32"
    caption = (
        "Parameters: in total, those that at least two task losses reach, and those that one loss "
        "alone reaches. MACs and kept activations (for the backward pass, without the losses): all "
        "tasks in one pass, and a pass for one task alone."
    )
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("")
    for name in ("parameters", "MACs (G)", "kept activations (MiB)"):
        table.add_column(name, justify="right")
    table.add_row("whole network", f"{costs.parameters:,}", *_row(costs.whole))
    table.add_row("shared", f"{costs.shared:,}", "", "")
    for task, cost in costs.alone.items():
        table.add_row(task, f"{costs.own[task]:,}", *_row(cost))
    unread = costs.parameters - costs.shared - sum(costs.own.values())
    if unread:
        table.add_row("reached by no loss", f"{unread:,}", "", "")
    macs = sum(cost.macs for cost in costs.alone.values())
    saved = sum(cost.saved for cost in costs.alone.values())
    table.add_section()
    table.add_row("sum of the tasks alone", "", *_row(Cost(macs, saved)))
    table.add_row(
        "whole / sum", "", f"{costs.whole.macs / macs:.3f}", f"{costs.whole.saved / saved:.3f}"
    )
    return table


def _row(cost: Cost) -> tuple[str, str]:
    return f"{cost.macs / 1e9:.3f}", f"{cost.saved / 2**20:.1f}"
