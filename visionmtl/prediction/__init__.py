"""Prediction on images of any size.

``infer`` takes tensors, ``predict`` one image or file, ``predict_paths`` many files and videos.

>>> import numpy as np
>>> from visionmtl.models import create_model
>>> from visionmtl.tasks import TaskSpec
>>> model = create_model("test_resnet", [TaskSpec.depth()], pretrained=False)
>>> result = predict(model, np.zeros((48, 64, 3), np.uint8))
>>> list(result), result["depth"].metres.shape
(['depth'], (48, 64))
"""

from visionmtl.prediction.files import predict_paths
from visionmtl.prediction.infer import infer
from visionmtl.prediction.predict import predict
from visionmtl.prediction.result import Result

__all__ = ["Result", "infer", "predict", "predict_paths"]
