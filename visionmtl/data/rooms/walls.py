"""What is flat in a procedural room: floor, ceiling and walls, and what lies and hangs on them."""

from __future__ import annotations

from itertools import product
from math import inf

from visionmtl.data.rooms.dice import Dice, shade
from visionmtl.data.rooms.scene import Panel, Texture, Vector

SLOT = 1.7
"""Metres of wall that each door, window or picture has for itself, at least."""


def draw_panels(dice: Dice, room: Vector) -> tuple[Panel, ...]:
    """Floor, ceiling and walls, then a rug, a door, windows and pictures."""
    paper = _wallpaper(dice)
    sides = list(product((0, 2), (False, True)))
    walls = []
    for axis, far in sides:
        texture = paper
        if dice.chance(0.25):
            texture = _wallpaper(dice)
        walls.append(Panel("wall", axis, far, texture))
    paint = dice.color((0.05, 0.15), (0.0, 0.3), (0.3, 0.95))
    skirting = Texture("solid", (paint, paint), gloss=0.2)
    ceiling = dice.color((0.05, 0.2), (0.0, 0.08), (0.88, 0.97))
    panels = [
        Panel("floor", 1, True, _flooring(dice)),
        Panel("ceiling", 1, False, Texture("solid", (ceiling, ceiling))),
        *walls,
        *(Panel("wall", axis, far, skirting, half=(inf, 0.09)) for axis, far in sides),
    ]
    if dice.chance(0.6):
        panels.append(_rug(dice, room))
    return (*panels, *_hangings(dice, room))


def _rug(dice: Dice, room: Vector) -> Panel:
    center = (room[0] * dice.between(0.35, 0.65), room[2] * dice.between(0.45, 0.65))
    half = (dice.between(0.6, 1.2), dice.between(0.5, 1.0))
    frame = dice.color((0.0, 1.0), (0.2, 0.7), (0.3, 0.9))
    return Panel("rug", 1, True, dice.texture(0.25), center, half, border=0.1, frame=frame)


def _hangings(dice: Dice, room: Vector) -> list[Panel]:
    """At most one door, and windows and pictures, on all walls but the one behind the camera."""
    panels = []
    doors = 0
    for axis, far, length in ((0, False, room[2]), (0, True, room[2]), (2, True, room[0])):
        slots = int(length / SLOT)
        for slot in range(slots):
            label = dice.pick(("door", "window", "window", "picture", "picture", "", ""))
            if label == "door":
                doors += 1
            if not label or (label == "door" and doors > 1):
                continue
            across = length * (slot + 0.5) / slots + dice.between(-0.12, 0.12)
            white = dice.color((0.08, 0.16), (0.0, 0.15), (0.8, 0.97))
            panels.append(_HANGINGS[label](dice, axis, far, across, white))
    return panels


def _door(dice: Dice, axis: int, far: bool, across: float, white: Vector) -> Panel:
    wood = dice.color((0.03, 0.12), (0.15, 0.65), (0.4, 0.9))
    texture = Texture("planks", (wood, shade(wood, 0.6)), 0.28, dice.between(0, 9), 0.2)
    half = (dice.between(0.38, 0.48), 1.0)
    return Panel("door", axis, far, texture, (across, -1.0), half, border=0.07, frame=white)


def _window(dice: Dice, axis: int, far: bool, across: float, white: Vector) -> Panel:
    sky = dice.color((0.54, 0.6), (0.35, 0.65), (0.6, 0.85))
    cell = dice.between(0.3, 0.6)
    texture = Texture("noise", (sky, (0.7, 0.74, 0.8)), cell, dice.between(0, 9))
    half = (dice.between(0.4, 0.65), dice.between(0.4, 0.6))
    glow = dice.between(0.3, 1.0)
    center = (across, -dice.between(1.4, 1.6))
    return Panel(
        "window", axis, far, texture, center, half, border=0.06, frame=white, bars=True, glow=glow
    )


def _picture(dice: Dice, axis: int, far: bool, across: float, white: Vector) -> Panel:
    frame = white
    if not dice.chance(0.3):
        frame = dice.color((0.05, 0.12), (0.2, 0.7), (0.15, 0.6))
    half = (dice.between(0.25, 0.55), dice.between(0.22, 0.42))
    texture = dice.texture(0.22)
    center = (across, -dice.between(1.4, 1.65))
    return Panel("picture", axis, far, texture, center, half, border=0.04, frame=frame)


_HANGINGS = {"door": _door, "window": _window, "picture": _picture}
"""Label -> (dice, axis and far of the wall, metres along it, a white) -> panel."""


def _flooring(dice: Dice) -> Texture:
    kind = dice.pick(("planks", "planks", "checker", "noise"))
    if kind == "planks":
        light = dice.color((0.05, 0.11), (0.3, 0.6), (0.6, 0.88))
        colors = (light, shade(light, 0.4))
        return Texture(kind, colors, dice.between(0.12, 0.24), dice.between(0, 9), gloss=0.15)
    if kind == "checker":
        light = dice.color((0.0, 1.0), (0.0, 0.2), (0.75, 0.95))
        dark = dice.color((0.0, 1.0), (0.05, 0.5), (0.25, 0.6))
        colors = (light, dark)
        return Texture(kind, colors, dice.between(0.35, 0.65), dice.between(0, 9), gloss=0.25)
    carpet = dice.color((0.0, 1.0), (0.1, 0.4), (0.45, 0.75))
    colors = (carpet, shade(carpet, 0.7))
    return Texture(kind, colors, dice.between(0.05, 0.2), dice.between(0, 9))


def _wallpaper(dice: Dice) -> Texture:
    kind = dice.pick(("solid", "solid", "noise", "stripes", "planks"))
    base = dice.color((0.0, 1.0), (0.04, 0.35), (0.75, 0.96))
    if kind == "planks":
        base = dice.color((0.0, 0.1), (0.1, 0.5), (0.65, 0.92))
    colors = (base, shade(base, dice.between(0.55, 0.9)))
    return Texture(kind, colors, dice.between(0.12, 0.35), dice.between(0, 9))
