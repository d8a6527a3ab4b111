"""A network's ONNX graph whose convolutions and matrix products work in 8 bits."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from latentdiff.extras import import_extra

# A network's inputs: x, time, labels.
Inputs = tuple[Tensor, Tensor, Tensor | None]
NAMES = ("x", "time", "labels")
# What a graph depends on beside the network and its calibration: a part of the name under which it is kept.
RECIPE = "7-bit weights"


@dataclass(frozen=True)
class Calibration:
    """Where the ranges of 8-bit numbers come from: the network's inputs on its way from noise to images.

    Attributes:
        inputs: Returns them.
        key: What they depend on besides the network's weights.
    """

    inputs: Callable[[], Sequence[Inputs]]
    key: str


def int8_graph(graph: bytes, inputs: Sequence[Inputs]) -> bytes:
    """Return the graph in 8 bits: static quantisation (Jacob et al. 2018) by ONNX Runtime.

    Weights have 7 bits and a scale for each output channel. Activations have 8 bits and a scale for each tensor: its
    range over ``inputs`` but for the outermost values. The first and the last convolution, which meet the noise itself,
    stay in fp32.

    Args:
        graph: An ONNX graph in fp32, with the inputs of :func:`~latentdiff.models.onnx_graph.network_graph`.
        inputs: Inputs to measure ranges on.

    Raises :class:`~latentdiff.errors.ConfigError` without the extra ``onnx``.
    """
    onnx: Any = import_extra("onnx", "onnx")
    quantization: Any = import_extra("onnxruntime.quantization", "onnx")
    prepare: Any = import_extra("onnxruntime.quantization.shape_inference", "onnx").quant_pre_process
    batches: Iterator[dict[str, np.ndarray]] = (
        {name: tensor.numpy() for name, tensor in zip(NAMES, each, strict=True) if tensor is not None}
        for each in inputs
    )

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, prepared, written = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "written"))
        plain.write_bytes(graph)
        prepare(str(plain), str(prepared))
        convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
        quantization.quantize_static(
            str(prepared),
            str(written),
            Reader(),
            per_channel=True,
            # Weights of 7 bits: without VNNI instructions, sums of products of 8-bit numbers overflow on x86.
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
        )
        return written.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser's messages, which are for its developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
