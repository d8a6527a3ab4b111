"""ONNX graphs with 16-bit weights that compute in 32 bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from latentdiff.errors import ConfigError
from latentdiff.extras import import_extra


def with_half_weights(graph: bytes, dtype: torch.dtype) -> bytes:
    """Return an ONNX graph with its kernels and matrices stored in 16 bits, and cast to fp32 where they are used.

    ONNX Runtime casts once, when it loads the graph.

    Args:
        graph: The graph, in fp32.
        dtype: ``torch.bfloat16`` has the range of fp32 and 8 significant bits; released models have such weights, and
            lose nothing. ``torch.float16`` has 11 significant bits, and numbers up to 65,504.

    Raises :class:`~latentdiff.errors.ConfigError` for a weight beyond that range.
    """
    onnx: Any = import_extra("onnx", "onnx")
    model = onnx.load_from_string(graph)
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    kind = {torch.bfloat16: onnx.TensorProto.BFLOAT16, torch.float16: onnx.TensorProto.FLOAT16}[dtype]
    casts = []
    for tensor, values in _matrices(model):
        stored, used = f"{tensor.name}.{name}", tensor.name
        half = torch.tensor(values).to(dtype)
        if not half.isfinite().all():
            largest = float(np.abs(values).max())
            raise ConfigError(f"{used} holds {largest:g}, which {name} cannot store: use --precision fp32 or bf16")
        raw = half.view(torch.int16).numpy().tobytes()
        tensor.CopyFrom(onnx.helper.make_tensor(stored, kind, values.shape, raw, raw=True))
        casts.append(onnx.helper.make_node("Cast", [stored], [used], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def rounded_to_half(graph: bytes) -> bytes:
    """Return an ONNX graph whose kernels and matrices are rounded to bf16, and still stored in fp32.

    Half of each number's bytes are then zeros, which compression removes.
    """
    onnx: Any = import_extra("onnx", "onnx")
    model = onnx.load_from_string(graph)
    for tensor, values in _matrices(model):
        rounded = torch.tensor(values).bfloat16().float().numpy()
        tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    return model.SerializeToString()


def _matrices(model: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """The kernels and matrices of an ONNX model, each with its values. A norm's weights are vectors."""
    onnx: Any = import_extra("onnx", "onnx")
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size != max(values.shape, default=1):
            yield tensor, values
