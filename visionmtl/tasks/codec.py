"""How the labels of a kind are stored: targets as codes, in files and in a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image

from visionmtl._images import read_numbers
from visionmtl._options import checking, options_model
from visionmtl.tasks.drawing.files import check_folder, save_image
from visionmtl.types import DenseTarget


class Codec:
    """Target <-> codes, invalid pixels included, of one task.

    What stands after ``*`` in the constructor is what ``dataset.yaml`` says of the stored files; an
    attribute of the same name holds it.

    Args:
        kind: of the task.

    Attributes:
        suffixes: of label files, in lower case; the first one is written.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".png",)

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __init_subclass__(cls) -> None:
        checking(cls)

    @classmethod
    def for_labels(cls, kind: Any) -> Self:
        """The codec of new label files."""
        return cls(kind)

    @classmethod
    def for_predictions(cls, kind: Any) -> Self:
        """The codec of the files of a prediction, which no ``dataset.yaml`` describes."""
        return cls.for_labels(kind)

    def options(self) -> dict[str, Any]:
        """What ``dataset.yaml`` says of the files."""
        cls: type = type(self)
        return {name: getattr(self, name) for name in options_model(cls).model_fields}

    def encode(self, target: Any) -> np.ndarray:
        """The codes of a target."""
        raise NotImplementedError

    def decode(self, codes: np.ndarray, source: str = "codes") -> Any:
        """The target that codes stand for.

        Raises:
            ValueError: codes without a meaning; names ``source``.
        """
        raise NotImplementedError

    def pack(self, target: Any) -> np.ndarray:
        """The codes for a cache: as exact as those of the files, or more."""
        return self.encode(target)

    def unpack(self, codes: np.ndarray, size: tuple[int, int]) -> Any:
        """The target of ``pack``.

        Args:
            codes: flat.
            size: (H, W) of the image.
        """
        return self.decode(codes.reshape(*size, *self.kind.shape))

    def read(self, path: Path) -> Any:
        """The target of a label file.

        Raises:
            ValueError: the file cannot be read, or holds what has no meaning.
        """
        raise NotImplementedError

    def write(self, path: Path, target: Any) -> None:
        """Write a label file.

        Raises:
            ValueError: the folder does not exist.
        """
        save_image(path, self.encode(target))


class ValueCodec(Codec):
    """Values as they are, float32, NaN where invalid; in files a TIFF.

    A value of several channels lies in the file as planes, one below the other: (C * H, W).

    Raises:
        ValueError: a kind whose values float32 cannot hold.
    """

    suffixes = (".tiff", ".tif")

    def __init__(self, kind: Any) -> None:
        super().__init__(kind)
        if not np.can_cast(kind.dtype, np.float32):
            dtype = np.dtype(kind.dtype)
            raise ValueError(f"{kind.name}: float32 cannot hold {dtype}, give the kind a codec")

    def encode(self, target: DenseTarget) -> np.ndarray:
        codes = target.value.astype(np.float32)
        codes[~target.valid] = np.nan
        return codes

    def decode(self, codes: np.ndarray, source: str = "codes") -> DenseTarget:
        valid = np.isfinite(codes)
        if codes.ndim == 3:
            valid = valid.all(axis=2)
        value = codes.astype(np.float32)
        value[~valid] = 0
        return DenseTarget(value.astype(self.kind.dtype), valid)

    def read(self, path: Path) -> DenseTarget:
        planes = read_numbers(path, self.kind.name)
        if not self.kind.shape:
            return self.decode(planes, str(path))
        (channels,) = self.kind.shape
        rows, width = planes.shape
        if rows % channels:
            raise ValueError(f"{path}: {rows} rows are not {channels} planes of equal height")
        stacked = planes.reshape(channels, rows // channels, width)
        return self.decode(np.moveaxis(stacked, 0, 2), str(path))

    def write(self, path: Path, target: DenseTarget) -> None:
        check_folder(path)
        codes = self.encode(target)
        if codes.ndim == 3:
            codes = np.moveaxis(codes, 2, 0).reshape(-1, codes.shape[1])
        Image.fromarray(codes).save(path)
