"""Networks: a backbone, a decoder, a sharing scheme and a head per task, built from names.

``SHARING``, ``DECODERS`` and ``HEADS`` are the registries of what there is.

>>> from visionmtl.tasks import TaskSpec
>>> tasks = [TaskSpec.semseg(["floor", "wall"]), TaskSpec.depth(max_depth=10.0)]
>>> model = create_model("test_resnet", tasks, sharing="hard", decoder="fpn")
>>> sorted(SHARING)
['cross_stitch', 'hard', 'independent', 'mtan', 'nddr']
"""

from visionmtl.models.backbone import create_backbone
from visionmtl.models.decoders import DECODERS, Decoder
from visionmtl.models.factory import create_model
from visionmtl.models.heads import HEADS, DenseHead, Head
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing import SHARING, Sharing

__all__ = [
    "DECODERS",
    "HEADS",
    "SHARING",
    "Decoder",
    "DenseHead",
    "Head",
    "MultiTaskModel",
    "Sharing",
    "create_backbone",
    "create_model",
]
