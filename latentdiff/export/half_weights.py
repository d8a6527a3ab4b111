"""ONNX graphs whose weights are stored in 16 bits, and used in 32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from latentdiff.extras import import_extra


def with_half_weights(graph: bytes) -> bytes:
    """Return an ONNX graph with its kernels and matrices stored as bf16, and cast to fp32 where they are used.

    A runtime casts once, when it loads the graph. Released models have such weights, and lose nothing.
    """
    onnx: Any = import_extra("onnx", "onnx")
    model = onnx.load_from_string(graph)
    casts = []
    for tensor, values in _matrices(model):
        stored, name = f"{tensor.name}.bf16", tensor.name
        raw = torch.tensor(values).bfloat16().view(torch.int16).numpy().tobytes()
        tensor.CopyFrom(onnx.helper.make_tensor(stored, onnx.TensorProto.BFLOAT16, values.shape, raw, raw=True))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def has_half_weights(graph: bytes) -> bool:
    """Return whether :func:`with_half_weights` would lose nothing of a graph."""
    onnx: Any = import_extra("onnx", "onnx")
    matrices = (torch.tensor(values) for _, values in _matrices(onnx.load_from_string(graph)))
    return all(torch.equal(values.bfloat16().float(), values) for values in matrices)


def _matrices(model: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """The kernels and matrices of an ONNX model, each with its values. A norm's weights are vectors."""
    onnx: Any = import_extra("onnx", "onnx")
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size != max(values.shape, default=1):
            yield tensor, values
