from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou

from visionmtl.losses.detection import FCOSLoss, giou_loss
from visionmtl.losses.points import BACKGROUND, centerness_of, match_points, match_targets
from visionmtl.models.heads.detection import DetectionHead
from visionmtl.types import BoxTargets, DetectionOutput

SIZE = (128, 160)
STRIDES = (8, 16, 32)
K = 3


def make_points() -> tuple[Tensor, Tensor]:
    points, strides = [], []
    for stride in STRIDES:
        for y in range(SIZE[0] // stride):
            for x in range(SIZE[1] // stride):
                points.append([(x + 0.5) * stride, (y + 0.5) * stride])
                strides.append(float(stride))
    return torch.tensor(points), torch.tensor(strides)


def make_output(batch: int, seed: int = 0) -> DetectionOutput:
    rng = torch.Generator().manual_seed(seed)
    points, strides = make_points()
    a = len(points)
    logits = torch.randn(batch, a, K, generator=rng).requires_grad_()
    distances = (torch.rand(batch, a, 4, generator=rng) * 60 + 1).requires_grad_()
    centerness = torch.randn(batch, a, generator=rng).requires_grad_()
    return DetectionOutput(logits, distances, centerness, points, strides, SIZE)


def random_boxes(n: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(n, 2, generator=rng) * torch.tensor([120.0, 90.0])
    side = 2 + torch.rand(n, 2, generator=rng) ** 2 * 140
    high = torch.minimum(low + side, torch.tensor([160.0, 128.0]))
    return torch.cat((low, high), dim=1), torch.randint(0, K, (n,), generator=rng)


def no_boxes() -> tuple[Tensor, Tensor]:
    return torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)


def make_targets(*images: tuple[Tensor, Tensor], annotated: list[bool] | None = None) -> BoxTargets:
    return BoxTargets(
        [b for b, _ in images], [c for _, c in images], annotated or [True] * len(images)
    )


def gradients(output: DetectionOutput) -> list[Tensor]:
    grads = [t.grad for t in (output.class_logits, output.distances, output.centerness)]
    assert all(g is not None for g in grads)
    return [g for g in grads if g is not None]


Match = tuple[int, float, float, float, float]


def slow_match(boxes: Tensor, labels: Tensor, radius: float) -> list[Match | None]:
    """The paper's rule, point by point and box by box, with a table of ranges."""
    ranges = {8: (0.0, 64.0), 16: (64.0, 128.0), 32: (128.0, math.inf)}
    points, strides = make_points()
    matches: list[Match | None] = []
    for (x, y), stride in zip(points.tolist(), strides.tolist(), strict=True):
        best: Match | None = None
        smallest = math.inf
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            inside = min(sides) > 0
            central = (
                abs(x - (x1 + x2) / 2) < radius * stride
                and abs(y - (y1 + y2) / 2) < radius * stride
            )
            low, high = ranges[int(stride)]
            area = (x2 - x1) * (y2 - y1)
            if inside and central and low < max(sides) <= high and area < smallest:
                smallest, best = area, (label, *sides)
        matches.append(best)
    return matches


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def slow_loss(output: DetectionOutput, targets: BoxTargets, radius: float = 1.5) -> float:
    """FCOS' loss with Python numbers; GIoU from torchvision's pairwise function."""
    focal = box = ctr = weight = 0.0
    positives = 0
    for i, annotated in enumerate(targets.annotated):
        if not annotated:
            continue
        matches = slow_match(targets.boxes[i], targets.labels[i], radius)
        for a, match in enumerate(matches):
            for k in range(K):
                p = sigmoid(output.class_logits[i, a, k].item())
                if match is not None and match[0] == k:
                    focal -= 0.25 * (1 - p) ** 2 * math.log(p)
                else:
                    focal -= 0.75 * p**2 * math.log(1 - p)
            if match is None:
                continue
            positives += 1
            left, top, right, bottom = match[1:]
            c = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
            corners = torch.tensor([-1.0, -1.0, 1.0, 1.0])
            predicted, truth = (
                output.distances[i, a].detach() * corners,
                torch.tensor(match[1:]) * corners,
            )
            box += c * (1 - generalized_box_iou(predicted[None], truth[None]).item())
            weight += c
            q = sigmoid(output.centerness[i, a].item())
            ctr -= c * math.log(q) + (1 - c) * math.log(1 - q)
    return focal / max(positives, 1) + box / max(weight, 1e-6) + ctr / max(positives, 1)


def weigh(classes: float, boxes: float, centerness: float) -> dict[str, float]:
    """Options of the loss: its three factors."""
    return {"class_weight": classes, "box_weight": boxes, "centerness_weight": centerness}


@pytest.mark.parametrize("radius", [1.5, 0.5, math.inf])
@pytest.mark.parametrize("n", [1, 12, 60])
@pytest.mark.parametrize("on_grid", [False, True], ids=["anywhere", "on_grid"])
def test_matching_equals_the_slow_loop(n: int, radius: float, on_grid: bool) -> None:
    boxes, labels = random_boxes(n, seed=n)
    if on_grid:  # meets the limits of inside, central and the ranges exactly
        boxes = (boxes / 4).round() * 4
    points, strides = make_points()
    got_labels, got_distances = match_points(points, strides, boxes, labels, radius)
    expected = slow_match(boxes, labels, radius)
    assert got_labels.tolist() == [BACKGROUND if m is None else m[0] for m in expected]
    assert any(m is not None for m in expected) or n == 1
    for got, match in zip(got_distances.tolist(), expected, strict=True):
        assert got == pytest.approx([1.0] * 4 if match is None else match[1:], abs=1e-4)


def test_a_box_is_matched_on_the_level_of_its_size() -> None:
    points, strides = make_points()
    for side, stride in (
        (40.0, 8),
        (100.0, 8),
        (128.0, 16),
    ):  # half a side plus what the point is off the centre
        box = torch.tensor([[80 - side / 2, 64 - side / 2, 80 + side / 2, 64 + side / 2]])
        labels, _ = match_points(points, strides, box, torch.tensor([2]), 0.75)
        assert set(strides[labels >= 0].tolist()) == {float(stride)}, side


def test_the_smaller_box_wins() -> None:
    points, strides = make_points()
    boxes = torch.tensor([[0.0, 0.0, 60.0, 60.0], [20.0, 20.0, 40.0, 40.0]])
    labels, distances = match_points(points, strides, boxes, torch.tensor([0, 1]), 1.5)
    at = int(((points == torch.tensor([28.0, 28.0])).all(1) & (strides == 8)).nonzero())
    assert labels[at] == 1
    assert distances[at].tolist() == [8.0, 8.0, 12.0, 12.0]


def test_a_box_between_the_points_is_background() -> None:
    points, strides = make_points()
    labels, distances = match_points(
        points, strides, torch.tensor([[13.0, 13.0, 15.0, 15.0]]), torch.tensor([1]), 1.5
    )
    assert (labels == BACKGROUND).all()
    assert (distances == 1).all()


def test_loss_equals_the_slow_loop() -> None:
    output = make_output(4)
    targets = make_targets(
        random_boxes(8, 1),
        no_boxes(),
        random_boxes(1, 2),
        random_boxes(5, 3),
        annotated=[True, True, True, False],
    )
    assert FCOSLoss(K)(output, targets).item() == pytest.approx(
        slow_loss(output, targets), rel=1e-5
    )


@pytest.mark.parametrize("size", [(64, 96), (33, 130), (1, 1)])
def test_prepared_targets_lie_at_the_points_of_the_head(size: tuple[int, int]) -> None:
    padded = [side + -side % 32 for side in size]
    pyramid = [torch.zeros(2, 2, padded[0] // s, padded[1] // s) for s in (4, 8, 16, 32)]
    output, loss = DetectionHead(2, [4, 8, 16, 32], K)(pyramid, size), FCOSLoss(K)
    targets = make_targets(random_boxes(6, 1), no_boxes())
    ready = loss.prepare(targets, size)
    for i in range(2):
        labels, distances = match_points(
            output.points, output.strides, targets.boxes[i], targets.labels[i], 1.5
        )
        assert torch.equal(ready.labels[i], labels)
        assert torch.equal(ready.distances[i], distances)
    positive = ready.labels >= 0
    assert not ready.centerness[~positive].any()
    assert loss.counts(ready).tolist() == [
        positive.sum(),
        pytest.approx(ready.centerness.sum().item()),
    ]
    assert loss(output, ready).item() == loss(output, targets).item()


def test_weights_scale_their_terms() -> None:
    output, targets = make_output(1), make_targets(random_boxes(8, 1))
    parts = [FCOSLoss(K, **weigh(*w))(output, targets) for w in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    total = FCOSLoss(K, **weigh(2.0, 3.0, 4.0))(output, targets)
    torch.testing.assert_close(total, 2 * parts[0] + 3 * parts[1] + 4 * parts[2])


def test_unannotated_images_take_no_part() -> None:
    alone = make_output(1)
    both = make_output(2, seed=1)
    with torch.no_grad():
        for name in ("class_logits", "distances", "centerness"):
            getattr(both, name)[0] = getattr(alone, name)[0]
            getattr(both, name)[1] = math.nan
    boxes = random_boxes(6, 4)
    loss = FCOSLoss(K)(both, make_targets(boxes, random_boxes(3, 5), annotated=[True, False]))
    torch.testing.assert_close(loss, FCOSLoss(K)(alone, make_targets(boxes)))
    loss.backward()
    for grad in gradients(both):
        assert grad.isfinite().all()
        assert grad[0].any()
        assert not grad[1].any()


def test_nothing_annotated_is_zero_with_zero_gradient() -> None:
    output = make_output(2)
    loss = FCOSLoss(K)(output, make_targets(no_boxes(), no_boxes(), annotated=[False, False]))
    loss.backward()
    assert loss.item() == 0.0
    assert not any(grad.any() for grad in gradients(output))


def test_images_without_boxes_are_background() -> None:
    output = make_output(2)
    loss = FCOSLoss(K)(output, make_targets(no_boxes(), no_boxes()))
    loss.backward()
    classes, distances, centerness = gradients(output)
    assert loss.item() > 0
    assert (classes > 0).all()  # every logit is pushed down
    assert not distances.any()
    assert not centerness.any()


def test_points_without_a_box_may_predict_anything_finite_or_not() -> None:
    output, targets = make_output(1), make_targets(random_boxes(2, 7))
    expected = FCOSLoss(K)(output, targets)
    labels, _ = match_points(
        output.points, output.strides, targets.boxes[0], targets.labels[0], 1.5
    )
    with torch.no_grad():
        output.distances[0, labels < 0] = math.nan
        output.centerness[0, labels < 0] = math.inf
    loss = FCOSLoss(K)(output, targets)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert all(grad.isfinite().all() for grad in gradients(output))


@pytest.mark.parametrize("name", ["class_logits", "distances", "centerness"])
def test_nan_at_a_positive_point_is_reported(name: str) -> None:
    output, targets = make_output(1), make_targets(random_boxes(8, 1))
    labels, _ = match_points(
        output.points, output.strides, targets.boxes[0], targets.labels[0], 1.5
    )
    with torch.no_grad():
        getattr(output, name)[0, int((labels >= 0).nonzero()[0])] = math.nan
    assert FCOSLoss(K)(output, targets).isnan()


def test_perfect_prediction_has_finite_gradients() -> None:
    boxes, labels = random_boxes(8, 1)
    output = make_output(1)
    matched, distances = match_points(output.points, output.strides, boxes, labels, 1.5)
    with torch.no_grad():
        output.distances[0] = distances
        output.class_logits[0] = torch.where(
            matched.unsqueeze(-1) == torch.arange(K), 100.0, -100.0
        )
        output.centerness[0] = torch.logit(centerness_of(distances), eps=1e-6)
    loss = FCOSLoss(K, centerness_weight=0.0)(output, make_targets((boxes, labels)))
    (loss + FCOSLoss(K)(output, make_targets((boxes, labels)))).backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert all(grad.isfinite().all() for grad in gradients(output))


def test_bfloat16_output_gives_a_float32_loss() -> None:
    output, targets = make_output(2), make_targets(random_boxes(8, 1), no_boxes())
    half = DetectionOutput(
        output.class_logits.bfloat16(),
        output.distances.bfloat16(),
        output.centerness.bfloat16(),
        *make_points(),
        SIZE,
    )
    rounded = DetectionOutput(
        half.class_logits.float(),
        half.distances.float(),
        half.centerness.float(),
        *make_points(),
        SIZE,
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = FCOSLoss(K)(half, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, FCOSLoss(K)(rounded, targets))


def known_case() -> tuple[DetectionOutput, BoxTargets]:
    """The first image speaks of classes 0 and 2 only, the second of all, the third is not
    annotated.
    """
    boxes, labels = random_boxes(8, 1)
    targets = make_targets(
        (boxes, torch.where(labels == 1, 2, labels)),
        random_boxes(5, 3),
        no_boxes(),
        annotated=[True, True, False],
    )
    targets.known = torch.tensor([[True, False, True], [True] * 3, [True] * 3])
    return make_output(3), targets


def test_classes_that_an_annotation_does_not_speak_of_are_no_background() -> None:
    output, targets = known_case()
    loss = FCOSLoss(K)(output, targets)
    loss.backward()
    classes, distances, centerness = gradients(output)
    assert not classes[0, :, 1].any()  # exactly 0
    assert classes[0, :, [0, 2]].all()
    assert classes[1].all()
    assert all(grad.isfinite().all() for grad in (classes, distances, centerness))
    with torch.no_grad():
        output.class_logits[0, :, 1] = 50.0
    assert FCOSLoss(K)(output, targets).item() == loss.item()


def test_focal_terms_of_unknown_classes_are_zero() -> None:
    """Against the loss of all classes with an output that is sure of the unknown class's
    absence.
    """
    output, targets = known_case()
    loss = FCOSLoss(K)(output, targets)
    targets.known = None
    with torch.no_grad():
        output.class_logits[0, :, 1] = -1e4
    torch.testing.assert_close(FCOSLoss(K)(output, targets), loss)


def test_unknown_classes_do_not_change_the_counts() -> None:
    _, targets = known_case()
    loss = FCOSLoss(K)
    counts = loss.counts(loss.prepare(targets, SIZE))
    targets.known = None
    assert torch.equal(counts, loss.counts(loss.prepare(targets, SIZE)))
    assert counts[0] > 0


def test_parts_with_and_without_unknown_classes_add_up() -> None:
    output, targets = known_case()
    assert targets.known is not None
    loss, parts = FCOSLoss(K), []
    for i, known in enumerate((targets.known[:1], None, None)):
        own = slice(i, i + 1)
        predicted = [t[own] for t in (output.class_logits, output.distances, output.centerness)]
        truth = BoxTargets(targets.boxes[own], targets.labels[own], targets.annotated[own], known)
        parts.append(
            (
                DetectionOutput(*predicted, *make_points(), SIZE),  # type: ignore[call-arg]
                match_targets(truth, *make_points(), 1.5),
            )
        )
    counts = torch.stack([loss.counts(truth) for _, truth in parts]).sum(0)
    added = torch.stack([loss(predicted, truth, counts) for predicted, truth in parts]).sum()
    torch.testing.assert_close(added, loss(output, targets))


def test_an_image_without_boxes_teaches_the_absence_of_its_classes_only() -> None:
    output, targets = make_output(1), make_targets(no_boxes())
    targets.known = torch.tensor([[False, True, False]])
    FCOSLoss(K)(output, targets).backward()
    classes, *_ = gradients(output)
    assert (classes[..., 1] > 0).all()
    assert not classes[..., [0, 2]].any()


def test_giou_golden_values_and_gradient() -> None:
    one = torch.ones(4, dtype=torch.float64)
    assert giou_loss(one, one).item() == 0.0
    assert giou_loss(2 * one, one).item() == pytest.approx(1 - 4 / 16)
    # 4 x 2 against 2 x 4: overlap 4, union 12, hull 16
    wide, tall = torch.tensor([2.0, 1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0, 2.0])
    assert giou_loss(wide, tall).item() == pytest.approx(1 - 4 / 12 + 4 / 16)
    predicted = torch.rand(5, 4, dtype=torch.float64).add(0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: giou_loss(p, one.expand(5, 4)), predicted)


def test_centerness_golden_values() -> None:
    distances = torch.tensor([[5.0, 5.0, 5.0, 5.0], [1.0, 2.0, 4.0, 2.0], [1.0, 1.0, 4.0, 4.0]])
    assert centerness_of(distances).tolist() == pytest.approx([1.0, 0.5, 0.25])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"centre_radius": 0.0}, "^FCOSLoss: centre_radius: must be > 0, got 0.0$"),
        ({"box_weight": -1.0}, "^FCOSLoss: box_weight: must be >= 0, got -1.0$"),
        ({"class_weight": math.inf}, "^FCOSLoss: class_weight: must be finite, got inf$"),
        ({"centerness_weight": math.nan}, "^FCOSLoss: centerness_weight: must be finite, got nan$"),
    ],
)
def test_bad_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FCOSLoss(K, **options)
