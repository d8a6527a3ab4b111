"""ONNX graphs whose weights are stored in 16 bits, and used in 32."""

from __future__ import annotations

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
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        is_vector = values.size == max(values.shape, default=1)  # such as a norm's weights, which stay as they are
        if values.dtype != np.float32 or is_vector:
            continue
        stored, name = f"{tensor.name}.bf16", tensor.name
        raw = torch.tensor(values).bfloat16().view(torch.int16).numpy().tobytes()
        tensor.CopyFrom(onnx.helper.make_tensor(stored, onnx.TensorProto.BFLOAT16, values.shape, raw, raw=True))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
