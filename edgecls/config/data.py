"""Settings of the images of a run: which there are, and how each becomes the network's input."""

from __future__ import annotations

from dataclasses import dataclass

from edgecls.limits import check_setting as _check
from edgecls.preprocessing import Preprocessing, Roi


@dataclass(frozen=True)
class DataConfig:
    """Settings of the images of a run.

    Attributes:
        labels: paths of tables of labels; this and the next five are those of `images.layout.Layout`.
        columns: of these tables.
        class_from: where the class is in file names.
        splits: which folders are which.
        group: which images never stand in two splits.
        exclude: path of a table of images to leave out.
        more_data: absolute paths of folders of more images, see `images.assign.assign`.
        bits: this and the next two are those of `Preprocessing`.
        resize: how a picture of another aspect ratio is fitted.
        roi: the part of each picture that the network gets.
        val_fraction: fraction of the training images held out for validation if there is no val/ folder.
        test_fraction: fraction held out for the final test if DATA is one folder of class folders.
    """

    labels: tuple[str, ...] = ()
    columns: str = ""
    class_from: str = ""
    splits: str = ""
    group: str = ""
    exclude: str = ""
    more_data: tuple[str, ...] = ()
    bits: int | None = None
    resize: str = "stretch"
    roi: Roi | None = None
    val_fraction: float = 0.15
    test_fraction: float = 0.15

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how a picture becomes the network's input; raise ConfigError for a value out of range."""
        return Preprocessing(self.bits, self.resize, self.roi)

    def _check_data(self) -> None:
        _ = self.preprocessing
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            _check(0 < value < 0.5, name, value, "above 0 and below 0.5")
