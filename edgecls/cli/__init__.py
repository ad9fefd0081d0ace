"""The command line: one file a command. The only folder that prints, exits or imports click.

Bodies are a few lines. Heavy modules are imported inside the commands that need them, so that `edgecls predict` starts
fast and works where TensorFlow is not installed.
"""

from __future__ import annotations

import errno
from typing import Any

import click

from edgecls import __version__
from edgecls.cli.demo import demo
from edgecls.cli.evaluate import evaluate
from edgecls.cli.export import export
from edgecls.cli.info import info
from edgecls.cli.predict import predict
from edgecls.cli.selftest import selftest
from edgecls.cli.train import train
from edgecls.errors import ConfigError, EdgeclsError

# Faults of the user's machine or of a path, not of our code: they deserve a sentence, not a traceback.
MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR)


class Group(click.Group):
    """Turns our errors into a message and an exit code, in this one place."""

    def invoke(self, ctx: click.Context) -> Any:
        """Return what the command returns; our errors become Click's."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        except EdgeclsError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno in MACHINE_FAULTS:
                raise click.ClickException(f"{error.strerror}: {error.filename or 'while writing'}") from error
            raise


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgecls")
def main() -> None:
    """Train a grayscale image classifier, export it to small int8 files, run them anywhere.

    \b
    Examples:
      edgecls demo                                  everything once, on images that come with edgecls
      edgecls train photos --out run                photos/ holds one folder of images for each class
      edgecls export run --int8                     writes run/export/model-int8.tflite and .onnx
      edgecls predict run/export/model-int8.tflite part.png
    """


for command in (demo, train, export, evaluate, predict, info, selftest):
    main.add_command(command)
