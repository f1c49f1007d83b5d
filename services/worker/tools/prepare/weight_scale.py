"""The scale that e4m3 codes of a matrix are multiplied by: the one that changes its outputs least.

The step of e4m3 is a fixed part of a value, so that the error of a matrix hardly depends on its
scale. Where values fall between two codes does: with a few inputs far larger than all others, as in
this model, it decides how wrong the outputs are. Scales repeat after a factor of 2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.worker.tools.prepare.rounding import E4M3_MAX, e4m3_rounded

_CANDIDATES = 8  # within a factor of 2


def best_weight_scale(
    weight: npt.NDArray[np.float32], inputs: npt.NDArray[np.float32]
) -> np.float32:
    """Of the scales that saturate nothing, tried in eighths of a factor of 2.

    weight [out, in]: all matrices that share the scale; inputs [n, in]: what they multiply.
    """
    least = np.float32(np.abs(weight).max()) / np.float32(E4M3_MAX)
    scales = [least * np.float32(2 ** (n / _CANDIDATES)) for n in range(_CANDIDATES)]
    errors = [_output_error(weight, inputs, scale) for scale in scales]
    return scales[int(np.argmin(errors))]


def _output_error(
    weight: npt.NDArray[np.float32], inputs: npt.NDArray[np.float32], scale: np.float32
) -> float:
    """The sum of the squares by which the outputs change."""
    change = e4m3_rounded(weight / scale) * scale - weight
    outputs = inputs @ change.T  # [n, out]
    return float(np.square(outputs, dtype=np.float64).sum())
