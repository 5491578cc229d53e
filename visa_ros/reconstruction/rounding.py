"""Values of an avatar that compress: rounded to what can be seen."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from visa_ros.types import Float32, GaussianAvatar

# Powers of two, which float16 and float32 hold exactly.  Metres for means (0.03 mm); colours,
# opacities and foot points are as fine as pictures.
_STEPS = {'means': 2**-15, 'quats': 2**-8, 'opacities': 2**-8, 'colors': 2**-8,
          'features': 2**-8}
_FOOT_STEP = 2**-8
_SCALE_BITS = 6  # of the mantissa: 1.6 %


def rounded(avatar: GaussianAvatar) -> GaussianAvatar:
    """
    Return the avatar with fewer digits, so that its file has a third of the bytes.

    To be done once, before it is signed.  Pictures differ by 51 to 53 dB (doc/reconstruction.md).
    """
    values = {name: (np.rint(getattr(avatar, name) / np.float32(step)) * np.float32(step))
              for name, step in _STEPS.items()}
    mantissas, exponents = np.frexp(avatar.scales)
    grid = np.float32(2**_SCALE_BITS)
    values['scales'] = np.ldexp(np.rint(mantissas * grid) / grid, exponents)
    values['barycentrics'] = _rounded_feet(avatar.barycentrics)
    return replace(avatar, **{
        name: value.astype(np.float32) for name, value in values.items()})


def _rounded_feet(barycentrics: Float32) -> Float32:
    """Round the second and third coordinate down, so that the first stays in the triangle."""
    rest = np.floor(barycentrics[:, 1:] / np.float32(_FOOT_STEP)) * np.float32(_FOOT_STEP)
    return np.concatenate([1 - rest.sum(1, keepdims=True), rest], 1)
