"""Configuration of a run: a YAML file, checked as a whole before anything is built.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> text = "{data: {type: rooms}, model: {backbone: {name: test_resnet}}}"
>>> with TemporaryDirectory() as folder:
...     path = Path(folder) / "tiny.yaml"
...     _ = path.write_text(text)
...     config = load_config(path, ["trainer.epochs=2"])
>>> config.trainer.epochs, config.model.sharing.type
(2, 'hard')
"""

from visionmtl.config.load import dump_config, load_config
from visionmtl.config.schema import Config

__all__ = ["Config", "dump_config", "load_config"]
