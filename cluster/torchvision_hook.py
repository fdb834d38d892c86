"""Makes ``import torchvision`` work next to a torch build it was not compiled for.

torchvision from PyPI is linked to CUDA. Beside CPU torch its shared library does not load, the operators it
would register stay unknown, and ``import torchvision`` dies with ``operator torchvision::nms does not
exist``, although everything used here (the transforms) is plain Python. Declaring the two schemas first is
enough.

`cluster.environment` copies this file into site-packages as ``_l2t_torchvision_hook.py`` with a ``.pth``
beside it, so it reaches every process of the environment: vLLM and Ray import torchvision in subprocesses of
their own. It is therefore self-contained and costs nothing until torchvision is really executed
(``find_spec`` alone is free).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare_operators(package_dir: str) -> None:
    """Declare the schemas unless torchvision's own library loads and so brings them."""
    import torch

    for library in Path(package_dir).glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
            return
        except OSError:
            continue
    for name, schema in SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema)


class TorchvisionFinder:
    """Finds torchvision where Python would, and declares its operators just before it runs."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if name != "torchvision":
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None or not spec.submodule_search_locations:
            return spec
        folder, run = spec.submodule_search_locations[0], spec.loader.exec_module

        def exec_module(module: Any) -> None:
            declare_operators(folder)
            run(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if os.environ.get("L2T_TORCHVISION_HOOK") != "0" and TorchvisionFinder not in sys.meta_path:
    sys.meta_path.insert(0, TorchvisionFinder)  # type: ignore[arg-type]
