from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgecls.images.heatmap import LEAST_WIDTH, LEGEND, color_in, draw_heatmap


def test_the_maximum_is_red_and_the_rest_stays_gray() -> None:
    heatmap = np.array([[-5, 0, 0], [0, 0, 2]], np.float32)
    colored = np.asarray(color_in(Image.new("L", (300, 200), 100), heatmap)).astype(int)
    assert colored.shape == (200, 300, 3)
    red, green, blue = colored[199, 299]
    assert red > 180 and green < 60 and blue < 60
    assert colored[0, 0].tolist() == [100, 100, 100]


@pytest.mark.parametrize("size", [(400, 300), (20, 30), (1, 1)])
def test_the_picture_keeps_its_size_above_the_legend(size: tuple[int, int]) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0])).astype(np.uint8))
    drawn = draw_heatmap(picture, np.full((7, 7), -1, np.float32), "Mutter ä", 0.5)
    assert drawn.size == (max(size[0], LEAST_WIDTH), size[1] + LEGEND)
    np.testing.assert_array_equal(np.asarray(drawn)[: size[1], : size[0], 0], np.asarray(picture))
    assert np.asarray(drawn)[size[1] :].min() < 100


def test_without_matplotlib_pillows_font_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecls.images.heatmap.find_spec", lambda name: None)
    draw_heatmap(Image.new("L", (300, 20)), np.ones((2, 2), np.float32), "Mutter ä", 1)
