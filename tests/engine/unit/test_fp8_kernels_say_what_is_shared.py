"""Which fp8 layers share their weights, and which shards of columns are copied, by the kernel that reads them."""

from typing import Any

import pytest
from shift_engine.compat.layers import parameters_of
from shift_engine.shared_weights import NotShareable, Parameter, Split
from torch import empty, nn
from vllm.model_executor.kernels.linear import (
    ChannelWiseTorchFP8ScaledMMLinearKernel,
    CutlassFP8ScaledMMLinearKernel,
    MarlinFP8ScaledMMLinearKernel,
)
from vllm.model_executor.layers.linear import ColumnParallelLinear, RowParallelLinear
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsLinearMethod
from vllm.model_executor.layers.quantization.compressed_tensors.schemes import CompressedTensorsW8A8Fp8
from vllm.model_executor.layers.quantization.utils.quant_utils import (
    QuantKey,
    kFp8DynamicTokenSym,
    kFp8StaticChannelSym,
    kFp8StaticTensorSym,
)


def made(kind: type, **attributes: Any) -> Any:
    """One of vLLM's objects without what its constructor asks of the machine."""
    it = kind.__new__(kind)
    for name, value in attributes.items():
        setattr(it, name, value)
    return it


def a_model(kernel: type, *, weights: QuantKey = kFp8StaticChannelSym, inputs: QuantKey = kFp8DynamicTokenSym) -> Any:
    """A column-parallel and a row-parallel layer in fp8."""
    model = nn.Module()
    for path, kind in (("up", ColumnParallelLinear), ("down", RowParallelLinear)):
        layer: Any = kind.__new__(kind)
        nn.Module.__init__(layer)
        layer.disable_tp = False
        layer.quant_method = made(CompressedTensorsLinearMethod)
        layer.scheme = made(
            CompressedTensorsW8A8Fp8, weight_quant_key=weights, activation_quant_key=inputs, fp8_linear=made(kernel)
        )
        layer.register_parameter("weight", nn.Parameter(empty(16, 16), requires_grad=False))
        layer.register_parameter("weight_scale", nn.Parameter(empty(16, 1), requires_grad=False))
        model.add_module(path, layer)
    return model


@pytest.mark.parametrize(
    ("kernel", "strided"), [(CutlassFP8ScaledMMLinearKernel, False), (ChannelWiseTorchFP8ScaledMMLinearKernel, True)]
)
def test_a_kernel_that_reads_packed_weights_gets_no_columns_of_a_larger_one(kernel: type, strided: bool) -> None:
    model = a_model(kernel)
    assert parameters_of(model, model) == [
        Parameter("up.weight", Split.ROWS, transposed=True, strided=strided),
        Parameter("up.weight_scale", Split.ROWS, strided=strided),
        Parameter("down.weight", Split.COLUMNS, transposed=True, strided=strided),
        Parameter("down.weight_scale", Split.WHOLE, strided=strided),
    ]


@pytest.mark.parametrize(
    "model",
    [
        a_model(MarlinFP8ScaledMMLinearKernel),
        a_model(CutlassFP8ScaledMMLinearKernel, weights=kFp8StaticTensorSym),
        a_model(CutlassFP8ScaledMMLinearKernel, inputs=kFp8StaticTensorSym),
    ],
    ids=["another kernel", "one scale for a weight", "inputs with a scale that is known before"],
)
def test_other_layers_in_fp8_are_copied(model: Any) -> None:
    with pytest.raises(NotShareable, match=r"up\.weight is held by CompressedTensorsLinearMethod"):
        parameters_of(model, model)
