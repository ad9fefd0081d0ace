"""Settings of training and export: their defaults and range checks.

The command line takes its defaults from here.
"""

from edgecls.config.augmentation import AugmentConfig
from edgecls.config.export import ExportConfig
from edgecls.config.training import TrainConfig

__all__ = ["AugmentConfig", "ExportConfig", "TrainConfig"]
