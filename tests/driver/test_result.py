"""Integers and real values of a program's tensors."""

from __future__ import annotations

import numpy as np
import pytest

from pliant.driver.result import RunResult, dequantize, quantize
from pliant.spec.program import Program, Segment, TensorInfo

INFO = TensorInfo(name="image", shape=(1, 1, 5), segment=Segment.INPUT, offset=0, scale=0.5,
                  zero_point=3)


def result(*names: str) -> RunResult:
    infos = tuple(TensorInfo(name=name, shape=(2, 1, 1), segment=Segment.OUTPUT, offset=0,
                             scale=0.5, zero_point=3) for name in names)
    program = Program(network="net", config_name="tiny", fingerprint=0, instructions=b"",
                      constants=b"", scratch_bytes=0, inputs=(), outputs=infos, layers=())
    value = np.array([[1, 5], [7, 7], [-3, -4]], np.int8).reshape(3, 2, 1, 1)
    return RunResult(program=program, outputs=dict.fromkeys(names, value), cycles=(1, 2, 3))


def test_real_values_are_rounded_to_even_and_saturated() -> None:
    real = np.array([[[0.25, 0.75, -0.25, 1000, -1000]]])
    assert quantize(real, INFO).tolist() == [[[3, 5, 3, 127, -128]]]
    integers = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(quantize(dequantize(integers, INFO), INFO), integers)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="'image' holds values that are infinite or no numbers"):
        quantize(np.array([bad]), INFO)


def test_integers_are_not_quantized_again() -> None:
    with pytest.raises(TypeError, match="found uint8, real values are float"):
        quantize(np.zeros(3, np.uint8), INFO)


def test_classes_are_the_first_of_the_largest() -> None:
    assert result("logits").classes().tolist() == [1, 0, 0]
    assert result("logits").real("logits")[0].ravel().tolist() == [-1.0, 1.0]


def test_several_outputs_have_no_single_one() -> None:
    with pytest.raises(ValueError, match="several outputs: boxes, scores"):
        _ = result("boxes", "scores").output
