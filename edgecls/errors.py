"""Every error that edgecls shows to a user.

Each child also inherits the builtin that fits, so library users may catch either. The text of an error says
what failed, the value received and what to do next. Imports nothing.
"""


class EdgeclsError(Exception):
    """Base of all errors that edgecls raises on purpose; the CLI prints its text and exits with 1."""


class ConfigError(EdgeclsError, ValueError):
    """A setting is out of its range, or two settings contradict each other."""


class DataError(EdgeclsError, ValueError):
    """An image file, an image array or a folder of images cannot be used."""


class ModelFileError(EdgeclsError, ValueError):
    """An exported file or a run folder is damaged, incomplete or not of edgecls."""


class WeightsError(EdgeclsError, RuntimeError):
    """Pretrained weights cannot be obtained, or are not the expected ones."""


class TrainingError(EdgeclsError, RuntimeError):
    """Training cannot continue, or gave no usable network."""


class ExportError(EdgeclsError, RuntimeError):
    """A converter failed, or the file it wrote differs from the model."""


class MissingDependency(EdgeclsError, ImportError):
    """A package that this step needs is not installed; the text holds the pip line."""


class RemoteError(EdgeclsError, RuntimeError):
    """A board cannot be reached over ssh, cannot run edgecls, or was lost while it did."""


class StorageError(EdgeclsError, OSError):
    """A bucket or another storage does not answer or refuses access."""


class ClusterError(EdgeclsError, RuntimeError):
    """A cluster cannot be reached, or its workers died repeatedly."""


class ImageWarning(UserWarning):
    """An image was classified, but its pixels are probably not what was meant."""
