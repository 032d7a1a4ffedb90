"""Random procedural rooms: their size, camera and light."""

from __future__ import annotations

from math import sqrt

import numpy as np

from visionmtl.data.rooms.dice import Dice
from visionmtl.data.rooms.furniture import draw_solids
from visionmtl.data.rooms.scene import LATTICE, Axes, Scene, Vector
from visionmtl.data.rooms.walls import draw_panels


def sample_scene(rng: np.random.Generator) -> Scene:
    """A random room, seen from a point in its near part towards its far part."""
    dice = Dice(rng)
    room = (dice.between(3.4, 6.0), dice.between(2.4, 3.1), dice.between(4.0, 6.8))
    eye = (room[0] * dice.between(0.12, 0.88), -dice.between(1.0, 1.9), dice.between(0.25, 1.0))
    target = (
        room[0] * dice.between(0.2, 0.8),
        -dice.between(0.0, 1.3),
        room[2] * dice.between(0.5, 0.9),
    )
    axes = _look(eye, target, dice.between(-0.05, 0.05))
    light = (
        room[0] * dice.between(0.2, 0.8),
        -room[1] + dice.between(0.15, 0.5),
        room[2] * dice.between(0.25, 0.75),
    )
    warmth = dice.between(-0.1, 0.18)
    power = dice.between(0.9, 1.8)
    ambient = dice.between(0.1, 0.3)
    return Scene(
        room=room,
        eye=eye,
        axes=axes,
        focal=dice.between(0.56, 0.85),
        panels=draw_panels(dice, room),
        solids=draw_solids(dice, room, eye, axes),
        light=light,
        lamp=(power * (1 + warmth), power, power * (1 - warmth)),
        ambient=(ambient * (1 - 0.5 * warmth), ambient, ambient * (1 + 0.5 * warmth)),
        lattice=rng.random((LATTICE, LATTICE)).astype(np.float32),
    )


def _look(eye: Vector, target: Vector, roll: float) -> Axes:
    """Right, down and forward unit vectors of a camera at ``eye`` that looks at ``target``, rolled
    by a tangent.
    """
    forward = _unit(target[0] - eye[0], target[1] - eye[1], target[2] - eye[2])
    level = _unit(forward[2], 0.0, -forward[0])
    down = _cross(forward, level)
    right = _unit(level[0] + roll * down[0], level[1] + roll * down[1], level[2] + roll * down[2])
    return right, _cross(forward, right), forward


def _unit(x: float, y: float, z: float) -> Vector:
    norm = sqrt(x * x + y * y + z * z)
    return x / norm, y / norm, z / norm


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
