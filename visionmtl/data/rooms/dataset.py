"""Procedural rooms: an endless data set with exact truth for every task, made from numbers alone.

Sample ``index`` of seed ``seed`` is the same on every machine; ``size`` only changes how finely its
scene is sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import inf, sqrt
from zlib import crc32

import numpy as np

from visionmtl.data.rooms.raycast import Panel, Scene, Solid, Texture, Vector, cast
from visionmtl.data.rooms.shading import LATTICE, photograph
from visionmtl.types import BoxTarget, DenseTarget, Sample, Target, TaskSpec

OBJECTS = ("box", "sphere", "cylinder")
CLASSES = ("floor", "ceiling", "wall", "rug", "door", "window", "picture", *OBJECTS)
MAX_DEPTH = 10.0
"""Metres; the largest room has a diagonal of 9.6 m."""
MIN_PIXELS = 16
"""Objects that show fewer pixels get no box."""

_PAINTS = (
    (0.98, 0.75, 0.80),
    (0.04, 0.75, 0.90),
    (0.10, 0.75, 0.92),
    (0.14, 0.55, 0.92),
    (0.26, 0.50, 0.70),
    (0.38, 0.50, 0.62),
    (0.47, 0.60, 0.70),
    (0.56, 0.65, 0.85),
    (0.62, 0.70, 0.75),
    (0.72, 0.45, 0.70),
    (0.92, 0.45, 0.88),
    (0.08, 0.15, 0.92),
    (0.60, 0.20, 0.40),
)
"""Hue, saturation and brightness of red, orange, amber, yellow, olive, green, teal, sky, blue,
violet, pink, cream and
slate: what people paint things with, no neon."""

_KNOWN = (
    TaskSpec.semseg(CLASSES),
    TaskSpec.depth(MAX_DEPTH),
    TaskSpec.normals(),
    TaskSpec.detection(OBJECTS),
)


class RoomsDataset:
    """Ray-cast rooms with semantic segmentation, depth, normals and boxes; a ``MultiTaskDataset``.

    Args:
        num_samples: how many samples the data set has; sample i does not depend on it.
        size: height and width in pixels.
        seed: data sets of different seeds have nothing in common: use two for training and
            validation.
        tasks: names of the tasks to give, in this order; all four if None.
        drop_labels: task -> share (0..1) of the samples that are not annotated for it. Which ones
            depends on seed, index and task only, and a larger share drops the same samples and
            more.

    Raises:
        ValueError: a number that makes no sense, an unknown or repeated task, a share outside 0..1.
    """

    def __init__(
        self,
        num_samples: int,
        size: tuple[int, int] = (128, 160),
        seed: int = 0,
        tasks: Sequence[str] | None = None,
        drop_labels: Mapping[str, float] | None = None,
    ) -> None:
        known = {task.name: task for task in _KNOWN}
        names = list(known) if tasks is None else list(tasks)
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, got {num_samples}")
        if len(size) != 2 or min(size) < 1:
            raise ValueError(
                f"size: expected (height, width) of at least 1 pixel, got {tuple(size)}"
            )
        if seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {seed}")
        if not names or len(set(names)) < len(names):
            raise ValueError(f"tasks: expected different names, at least one, got {names}")
        for name in names:
            if name not in known:
                raise ValueError(f"tasks: unknown task {name!r}; known: {', '.join(known)}")
        for name, share in (drop_labels or {}).items():
            if name not in names:
                raise ValueError(
                    f"drop_labels: unknown task {name!r}; tasks of this data set: {', '.join(names)}"
                )
            if not 0 <= share <= 1:
                raise ValueError(f"drop_labels: the share of {name!r} must be in 0..1, got {share}")
        self.tasks = [known[name] for name in names]
        self.size = (int(size[0]), int(size[1]))
        self._num_samples = num_samples
        self._seed = seed
        self._drop_labels = dict(drop_labels or {})

    def __len__(self) -> int:
        return self._num_samples

    def sample_id(self, index: int) -> str:
        return f"rooms-{self._seed}-{index:06d}"

    def __getitem__(self, index: int) -> Sample:
        """The sample ``index``.

        Raises:
            IndexError: ``index`` is outside 0..len - 1.
        """
        if not 0 <= index < self._num_samples:
            raise IndexError(f"sample {index} of a rooms data set of {self._num_samples}")
        rng = _generator(self._seed, index)
        scene = sample_scene(rng)
        view = cast(scene, self.size)
        valid = np.ones(self.size, bool)
        labels = np.array([CLASSES.index(part.label) for part in scene.parts], np.uint8)
        truth: dict[str, Target] = {
            "semseg": DenseTarget(labels[view.surface], valid),
            "depth": DenseTarget(view.depth, valid.copy()),
            "normals": DenseTarget(view.normals, valid.copy()),
            "detection": _boxes(scene, view.surface),
        }
        targets = {
            task.name: truth[task.name] for task in self.tasks if self._annotated(index, task.name)
        }
        return Sample(photograph(scene, view, rng), targets, self.sample_id(index), view.camera)

    def _annotated(self, index: int, task: str) -> bool:
        share = self._drop_labels.get(task, 0.0)
        return share == 0 or _generator(self._seed, index, crc32(task.encode())).random() >= share


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _boxes(scene: Scene, surface: np.ndarray) -> BoxTarget:
    """Tight boxes around the visible pixels of each solid, in the order of the scene."""
    boxes, labels = [], []
    for index, solid in enumerate(scene.solids, len(scene.panels)):
        mask = surface == index
        if mask.sum() < MIN_PIXELS:
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        labels.append(OBJECTS.index(solid.label))
    return BoxTarget(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))


def sample_scene(rng: np.random.Generator) -> Scene:
    """A random room, seen from a point in its near part towards its far part."""
    dice = _Dice(rng)
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
    warmth, power = dice.between(-0.1, 0.18), dice.between(0.9, 1.8)
    ambient = dice.between(0.1, 0.3)
    return Scene(
        room=room,
        eye=eye,
        axes=axes,
        focal=dice.between(0.56, 0.85),
        panels=_panels(dice, room),
        solids=_solids(dice, room, eye, axes),
        light=light,
        lamp=(power * (1 + warmth), power, power * (1 - warmth)),
        ambient=(ambient * (1 - 0.5 * warmth), ambient, ambient * (1 + 0.5 * warmth)),
        lattice=rng.random((LATTICE, LATTICE)).astype(np.float32),
    )


class _Dice:
    """Random numbers from the plain uniform stream of a generator: the one that NumPy never
    changes.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def chance(self, share: float) -> bool:
        return float(self.rng.random()) < share

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.random() * len(options))]

    def direction(self) -> tuple[float, float]:
        """Cosine and sine of an angle in -90..90 degrees, from the rational points of the
        circle.
        """
        t = self.between(-1, 1)
        return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)

    def color(
        self, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]
    ) -> Vector:
        """A linear RGB colour from ranges of hue, saturation and brightness (gamma 2), all in
        0..1.
        """
        h, s, v = (self.between(*limits) for limits in (hue, saturation, value))
        ramps = ((n + 6 * h) % 6 for n in (5, 3, 1))
        red, green, blue = ((v - v * s * max(0.0, min(k, 4 - k, 1.0))) ** 2 for k in ramps)
        return red, green, blue

    def paint(self) -> Vector:
        """A linear RGB colour near one of ``_PAINTS``."""
        hue, saturation, value = _PAINTS[int(self.rng.random() * len(_PAINTS))]
        return self.color(
            (hue, hue + 0.05), (saturation - 0.15, saturation + 0.05), (value - 0.15, value + 0.05)
        )


def _look(eye: Vector, target: Vector, roll: float) -> tuple[Vector, Vector, Vector]:
    """Right, down and forward unit vectors of a camera at ``eye`` that looks at ``target``, rolled
    by a tangent.
    """
    forward = _unit(*(t - e for t, e in zip(target, eye, strict=True)))
    right = _unit(forward[2], 0.0, -forward[0])
    down = _cross(forward, right)
    right = _unit(*(r + roll * d for r, d in zip(right, down, strict=True)))
    return right, _cross(forward, right), forward


def _unit(x: float, y: float, z: float) -> Vector:
    norm = sqrt(x * x + y * y + z * z)
    return x / norm, y / norm, z / norm


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _panels(dice: _Dice, room: Vector) -> tuple[Panel, ...]:
    """Floor, ceiling and walls, then a rug, a door, windows and pictures."""
    paper = _wallpaper(dice)
    sides = tuple(product((0, 2), (False, True)))
    walls = [_wallpaper(dice) if dice.chance(0.25) else paper for _ in sides]
    paint = dice.color((0.05, 0.15), (0.0, 0.3), (0.3, 0.95))
    skirting = Texture("solid", (paint, paint), gloss=0.2)
    ceiling = dice.color((0.05, 0.2), (0.0, 0.08), (0.88, 0.97))
    panels = [
        Panel("floor", 1, True, _flooring(dice)),
        Panel("ceiling", 1, False, Texture("solid", (ceiling, ceiling))),
        *(Panel("wall", *side, wall) for side, wall in zip(sides, walls, strict=True)),
        *(Panel("wall", *side, skirting, (0.0, 0.0), (inf, 0.09)) for side in sides),
    ]
    if dice.chance(0.6):
        center = (room[0] * dice.between(0.35, 0.65), room[2] * dice.between(0.45, 0.65))
        half = (dice.between(0.6, 1.2), dice.between(0.5, 1.0))
        frame = dice.color((0.0, 1.0), (0.2, 0.7), (0.3, 0.9))
        panels.append(
            Panel("rug", 1, True, _vivid(dice, 0.25), center, half, border=0.1, frame=frame)
        )
    doors = 1
    for axis, far, length in ((0, False, room[2]), (0, True, room[2]), (2, True, room[0])):
        slots = int(length / 1.7)
        for slot in range(slots):
            label = dice.pick(("door", "window", "window", "picture", "picture", "", ""))
            doors -= label == "door"
            if label and (label != "door" or doors >= 0):
                across = length * (slot + 0.5) / slots + dice.between(-0.12, 0.12)
                panels.append(_hanging(dice, label, axis, far, across))
    return tuple(panels)


def _flooring(dice: _Dice) -> Texture:
    kind = dice.pick(("planks", "planks", "checker", "noise"))
    if kind == "planks":
        light = dice.color((0.05, 0.11), (0.3, 0.6), (0.6, 0.88))
        return Texture(
            kind, (light, _shade_of(light, 0.4)), dice.between(0.12, 0.24), dice.between(0, 9), 0.15
        )
    if kind == "checker":
        light = dice.color((0.0, 1.0), (0.0, 0.2), (0.75, 0.95))
        dark = dice.color((0.0, 1.0), (0.05, 0.5), (0.25, 0.6))
        return Texture(kind, (light, dark), dice.between(0.35, 0.65), dice.between(0, 9), 0.25)
    carpet = dice.color((0.0, 1.0), (0.1, 0.4), (0.45, 0.75))
    return Texture(
        kind, (carpet, _shade_of(carpet, 0.7)), dice.between(0.05, 0.2), dice.between(0, 9)
    )


def _wallpaper(dice: _Dice) -> Texture:
    kind = dice.pick(("solid", "solid", "noise", "stripes", "planks"))
    base = dice.color((0.0, 1.0), (0.04, 0.35), (0.75, 0.96))
    if kind == "planks":
        base = dice.color((0.0, 0.1), (0.1, 0.5), (0.65, 0.92))
    return Texture(
        kind,
        (base, _shade_of(base, dice.between(0.55, 0.9))),
        dice.between(0.12, 0.35),
        dice.between(0, 9),
    )


def _vivid(dice: _Dice, cell: float) -> Texture:
    """A colourful texture whose second colour is a dark shade of the first, cream or another
    colour.
    """
    kind = dice.pick(("solid", "solid", "checker", "stripes", "bands", "noise", "planks"))
    first, other = dice.paint(), dice.paint()
    roll = dice.between(0, 1)
    second = _shade_of(first, 0.45) if roll < 0.35 else (0.85, 0.8, 0.68) if roll < 0.65 else other
    return Texture(
        kind,
        (first, second),
        cell * dice.between(0.7, 1.4),
        dice.between(0, 9),
        dice.between(0.0, 0.8),
    )


def _shade_of(color: Vector, share: float) -> Vector:
    return color[0] * share, color[1] * share, color[2] * share


def _hanging(dice: _Dice, label: str, axis: int, far: bool, across: float) -> Panel:
    """A door, window or picture on a wall, its middle at ``across`` metres along it."""
    white = dice.color((0.08, 0.16), (0.0, 0.15), (0.8, 0.97))
    if label == "door":
        wood = dice.color((0.03, 0.12), (0.15, 0.65), (0.4, 0.9))
        texture = Texture("planks", (wood, _shade_of(wood, 0.6)), 0.28, dice.between(0, 9), 0.2)
        return Panel(
            label, axis, far, texture, (across, -1.0), (dice.between(0.38, 0.48), 1.0), 0.07, white
        )
    if label == "window":
        sky = dice.color((0.54, 0.6), (0.35, 0.65), (0.6, 0.85))
        texture = Texture(
            "noise", (sky, (0.7, 0.74, 0.8)), dice.between(0.3, 0.6), dice.between(0, 9)
        )
        half = (dice.between(0.4, 0.65), dice.between(0.4, 0.6))
        glow = dice.between(0.3, 1.0)
        return Panel(
            label,
            axis,
            far,
            texture,
            (across, -dice.between(1.4, 1.6)),
            half,
            0.06,
            white,
            True,
            glow,
        )
    frame = white if dice.chance(0.3) else dice.color((0.05, 0.12), (0.2, 0.7), (0.15, 0.6))
    half = (dice.between(0.25, 0.55), dice.between(0.22, 0.42))
    return Panel(
        label, axis, far, _vivid(dice, 0.22), (across, -dice.between(1.4, 1.65)), half, 0.04, frame
    )


def _solids(
    dice: _Dice, room: Vector, eye: Vector, axes: tuple[Vector, Vector, Vector]
) -> tuple[Solid, ...]:
    """Three to eight solids in view that do not touch: on the floor, on top of one another, or
    (spheres) in the air.
    """
    count = 3 + int(dice.between(0, 6))
    solids: list[Solid] = []
    taken: list[tuple[float, float, float]] = []
    for _ in range(200):
        if len(solids) >= count:
            break
        label, half, radius = _shape(dice, dice.pick(OBJECTS), 1.0)
        x, z = (dice.between(radius + 0.02, room[i] - radius - 0.02) for i in (0, 2))
        right, _, forward = (
            a[0] * (x - eye[0]) - a[1] * eye[1] + a[2] * (z - eye[2]) for a in axes
        )
        free = all((x - p) ** 2 + (z - q) ** 2 > (radius + r) ** 2 for p, q, r in taken)
        if not free or forward < 1.3 + radius or abs(right) > 0.6 * forward:
            continue
        taken.append((x, z, radius))
        lift = dice.between(0.5, 1.0) if label == "sphere" and dice.chance(0.2) else 0.0
        solids.append(_place(dice, label, half, x, lift, z))
        top, surface = 2 * half[1], 0.85 * min(half[0], half[2])
        if (
            label != "sphere"
            and surface > 0.16
            and top < 0.9
            and len(solids) < count
            and dice.chance(0.45)
        ):
            label, half, _ = _shape(dice, dice.pick(OBJECTS), surface)
            solids.append(_place(dice, label, half, x, top, z))
    return tuple(solids)


def _place(dice: _Dice, label: str, half: Vector, x: float, lift: float, z: float) -> Solid:
    """A solid whose lowest point is ``lift`` metres above the floor."""
    return Solid(
        label, (x, -lift - half[1], z), half, dice.direction(), _vivid(dice, 0.6 * min(half))
    )


def _shape(dice: _Dice, label: str, limit: float) -> tuple[str, Vector, float]:
    """Label, half sizes and radius of the footprint (at most ``limit``) of a random solid, in
    metres.
    """
    a, b, c = dice.between(0.16, 0.42), dice.between(0.16, 0.5), dice.between(0.16, 0.42)
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
