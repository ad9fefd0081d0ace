"""A copy of lower resolution is recognized by what it kept."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgecls.audit.align import SIDE, blur, unit
from edgecls.audit.resolution import SIDES, compare_lower


def own(images: np.ndarray) -> np.ndarray:
    return images


@pytest.mark.parametrize("side", [*SIDES, 17, 23])
def test_an_image_correlates_with_its_copy_and_with_no_other(side: int) -> None:
    random = np.random.default_rng(side)
    image, other = blur(random.normal(100, 30, (2, SIDE, SIDE)).astype(np.float32))
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    copy = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    structure = unit(copy[np.newaxis]).reshape(1, -1)
    plain = (unit(image[np.newaxis]).reshape(1, -1) * structure).sum()
    found, foreign = compare_lower(np.stack([image, other]), np.repeat(structure, 2, axis=0), own)
    assert found > 0.95 and found > plain
    assert foreign < 0.6
