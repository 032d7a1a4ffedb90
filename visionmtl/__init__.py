"""visionmtl: one network, one forward pass, several dense predictions.

>>> import visionmtl
>>> tasks = [visionmtl.TaskSpec.semseg(["floor", "wall"]), visionmtl.TaskSpec.depth(max_depth=10.0)]
>>> model = visionmtl.create_model("test_resnet", tasks)

Every package beside it introduces its own public names: ``help("visionmtl.data")``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_PUBLIC = {
    "TaskSpec": "visionmtl.tasks",
    "create_model": "visionmtl.models.factory",
    "load_model": "visionmtl.zoo.load",
    "list_models": "visionmtl.zoo.load",
    "predict": "visionmtl.prediction.predict",
}
__all__ = ["TaskSpec", "create_model", "list_models", "load_model", "predict"]

if TYPE_CHECKING:
    from visionmtl.models.factory import create_model
    from visionmtl.prediction.predict import predict
    from visionmtl.tasks import TaskSpec
    from visionmtl.zoo.load import list_models, load_model


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562), so that ``import visionmtl`` stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'visionmtl' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
