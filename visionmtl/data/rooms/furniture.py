"""The solids in a procedural room."""

from __future__ import annotations

from math import sqrt

from visionmtl.data.rooms.dice import Dice
from visionmtl.data.rooms.scene import OBJECTS, Axes, Solid, Vector

ATTEMPTS = 200
"""Places tried for the solids of a room."""

GAP = 0.02
"""Metres between a solid and a wall, at least."""


def draw_solids(dice: Dice, room: Vector, eye: Vector, axes: Axes) -> tuple[Solid, ...]:
    """Three to eight solids in view that do not touch: on the floor, on top of one another, or
    (spheres) in the air.
    """
    count = 3 + int(dice.between(0, 6))
    solids: list[Solid] = []
    taken: list[tuple[float, float, float]] = []
    for _ in range(ATTEMPTS):
        if len(solids) >= count:
            break
        label, half, radius = _shape(dice, limit=1.0)
        x = dice.between(radius + GAP, room[0] - radius - GAP)
        z = dice.between(radius + GAP, room[2] - radius - GAP)
        if not _is_free(x, z, radius, taken) or not _in_view(x, z, radius, eye, axes):
            continue
        taken.append((x, z, radius))
        lift = 0.0
        if label == "sphere" and dice.chance(0.2):
            lift = dice.between(0.5, 1.0)
        solids.append(_place(dice, label, half, x, lift, z))
        top = 2 * half[1]
        surface = 0.85 * min(half[0], half[2])
        carries = label != "sphere" and surface > 0.16 and top < 0.9
        if carries and len(solids) < count and dice.chance(0.45):
            label, half, _ = _shape(dice, limit=surface)
            solids.append(_place(dice, label, half, x, top, z))
    return tuple(solids)


def _is_free(x: float, z: float, radius: float, taken: list[tuple[float, float, float]]) -> bool:
    """Whether a footprint touches none of the others, each x, z and radius."""
    return all((x - p) ** 2 + (z - q) ** 2 > (radius + r) ** 2 for p, q, r in taken)


def _in_view(x: float, z: float, radius: float, eye: Vector, axes: Axes) -> bool:
    """Whether a place on the floor is well before the camera."""
    right, _, forward = (a[0] * (x - eye[0]) - a[1] * eye[1] + a[2] * (z - eye[2]) for a in axes)
    return not (forward < 1.3 + radius or abs(right) > 0.6 * forward)


def _place(dice: Dice, label: str, half: Vector, x: float, lift: float, z: float) -> Solid:
    """A solid whose lowest point is ``lift`` metres above the floor."""
    center = (x, -lift - half[1], z)
    return Solid(label, center, half, dice.direction(), dice.texture(0.6 * min(half)))


def _shape(dice: Dice, limit: float) -> tuple[str, Vector, float]:
    """Label, half sizes and radius of the footprint (at most ``limit``) of a random solid, in
    metres.
    """
    label = dice.pick(OBJECTS)
    a = dice.between(0.16, 0.42)
    b = dice.between(0.16, 0.5)
    c = dice.between(0.16, 0.42)
    if label == "box":
        radius = sqrt(a * a + c * c)
        half = (a, b, c)
    elif label == "cylinder":
        radius = 0.8 * a
        half = (radius, b, radius)
    else:
        radius = a
        half = (a, a, a)
    scale = min(1.0, limit / radius)
    return label, (half[0] * scale, half[1] * scale, half[2] * scale), radius * scale
