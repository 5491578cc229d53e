"""The generated portraits, split into those to learn from and those to measure on."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from visa_ros.errors import ResourceError

_EVERY = 6  # is for measuring only


def portraits_of(assets: Path, split: str) -> list[Path]:
    """
    Return the generated portraits of a split, in an order that mixes their kinds.

    Parameters
    ----------
    assets : Path
        Holds portraits_ai/.
    split : {'train', 'test'}

    Raises
    ------
    ResourceError
        There are none.

    """
    paths = sorted((assets / 'portraits_ai').glob('*.jpg'))
    if not paths:
        raise ResourceError(f'no portraits_ai/*.jpg in {assets}; give the folder of the assets')
    own = [path for number, path in enumerate(paths)
           if (number % _EVERY == 0) == (split == 'test')]
    return [own[place] for place in np.random.default_rng(0).permutation(len(own))]
