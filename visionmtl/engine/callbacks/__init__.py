"""What is done beside the training, at the moments that ``Callback`` names; one file each."""

from visionmtl.engine.callbacks.base import Callback, EpochSummary, Run
from visionmtl.engine.callbacks.checkpoints import Checkpoints
from visionmtl.engine.callbacks.early_stopping import EarlyStopping
from visionmtl.engine.callbacks.ema import EMA
from visionmtl.engine.callbacks.metrics_log import MetricsLog
from visionmtl.engine.callbacks.pictures import Pictures
from visionmtl.engine.callbacks.screen import Screen
from visionmtl.engine.callbacks.tensorboard import TensorBoard

__all__ = [
    "EMA",
    "Callback",
    "Checkpoints",
    "EarlyStopping",
    "EpochSummary",
    "MetricsLog",
    "Pictures",
    "Run",
    "Screen",
    "TensorBoard",
]
