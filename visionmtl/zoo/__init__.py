"""Models that exist: the published ones, model folders, run folders and checkpoints.

>>> model = load_model(list_models()[0])
>>> [task.name for task in model.tasks]
['semseg', 'depth', 'normals', 'detection']
"""

from visionmtl.zoo.folder import save_model
from visionmtl.zoo.load import list_models, load_model

__all__ = ["list_models", "load_model", "save_model"]
