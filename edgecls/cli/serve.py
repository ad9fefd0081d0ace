"""edgecls serve."""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls.cli.terminal import PATH, collect_options, echo, untrusted_option, warn
from edgecls.runtime.engines import ALIASES, DEVICES, HARDWARE_ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgecls.model_file.metadata import ModelSpec
    from edgecls.serve.app import Access
    from edgecls.serve.collect import Collection
    from edgecls.serve.live import Frame, Live


@click.command()
@click.argument("file", type=PATH)
@click.option(
    "--camera", type=click.IntRange(min=0), metavar="N", help="Show camera N of this machine; 0 is the first."
)
@click.option("--watch", type=PATH, metavar="DIR", help="Show images that appear or change in DIR.")
@click.option("--bind", default="127.0.0.1:8000", show_default=True, metavar="ADDR:PORT", help="Where to listen.")
@click.option("--token", help="Password of all requests.  [default: none for 127.0.0.1, else a new one]")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name of this machine in browsers.")
@collect_options
@click.option("--threshold", type=click.FloatRange(0, 1), help="Reject lower scores.  [default: the file's own]")
@click.option("--engine", type=click.Choice([*HARDWARE_ENGINES, *ALIASES]), help="[default: the first that runs FILE]")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: the big cores, at most 4]")
@click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True, help="What the model runs on.")
@untrusted_option
def serve(file: Path, **options: Any) -> None:
    """Show FILE at work in a browser, and answer requests of other programs (HTTP).

    The page shows a camera of this machine (--camera), the images of a folder (--watch), the camera of the device that
    opens the page, or an image that you choose. It needs no network beyond this machine. Ctrl-C or SIGTERM ends it.

    By default only this machine can open it. For another address a token is needed: it is part of the link that is
    printed, and programs send it as "Authorization: Bearer TOKEN". The connection is not encrypted.

    \b
    Examples:
      edgecls serve model-int8.tflite
      edgecls serve model-int8.tflite --camera 0 --bind 0.0.0.0:8000
      edgecls serve model-int8.tflite --watch inbox --collect board-photos
      curl --data-binary @part.png http://127.0.0.1:8000/api/predict
    """
    _check_installed()
    from edgecls.runtime.classifier import load
    from edgecls.serve.app import create_app
    from edgecls.serve.live import Live
    from edgecls.serve.server import listen, parse_address
    from edgecls.serve.session import Session

    if options["camera"] is not None and options["watch"] is not None:
        raise click.UsageError("--camera excludes --watch: the page shows one of them")
    listener = listen(*parse_address(options["bind"]))
    access = _access(listener, options["token"], options["allow_host"])
    settings = {name: options[name] for name in ("engine", "threads", "device", "threshold", "untrusted")}
    classifier = load(file, **settings)
    session = Session(classifier, _open_collection(classifier.spec, options["collect"]))
    frames = _frames(options["camera"], options["watch"])
    live = Live(session, frames) if frames is not None else None
    if session.selftest["passed"] is False:
        warn(f"the self-test failed: {session.selftest['text']}")
    app = create_app(session, live, access)
    _print_address(listener, access.token)
    with contextlib.closing(session):
        _run_until_stopped(app, listener, live)


def _run_until_stopped(app: Any, listener: socket.socket, live: Live | None) -> None:
    from edgecls.serve.server import serve as run_server

    if live is not None:
        live.start()
    try:
        run_server(app, listener, live.stop if live is not None else lambda: None)
    except KeyboardInterrupt:
        # uvicorn has finished the requests, and repeats the signal: this is how a server normally ends.
        pass
    finally:
        if live is not None:
            live.stop()


def _check_installed() -> None:
    from importlib.util import find_spec

    from edgecls.errors import MissingDependency

    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise MissingDependency(f"serve needs {' and '.join(missing)}: pip install 'edgecls[serve]'")


def _access(listener: socket.socket, token: str | None, names: tuple[str, ...]) -> Access:
    from edgecls.serve.app import Access
    from edgecls.serve.server import is_loopback, own_names

    if token is not None and not re.fullmatch(r"[\x21-\x7e]{8,200}", token):
        raise click.UsageError("--token needs 8 to 200 characters of ASCII without spaces")
    loopback = is_loopback(listener)
    if not loopback and token is None:
        token = secrets.token_urlsafe(24)
    return Access({*names, *(() if loopback else own_names())}, loopback, token)


def _open_collection(spec: ModelSpec, collect: tuple[Path, int] | None) -> Collection | None:
    from edgecls.model_file.known_images import read_known
    from edgecls.serve.collect import Collection, Limits

    return None if collect is None else Collection(collect[0], spec.labels, Limits(collect[1]), read_known(spec))


def _frames(camera: int | None, watch: Path | None) -> Iterator[Frame] | None:
    from edgecls.images.leftovers import LeftOut
    from edgecls.serve.camera import camera_frames
    from edgecls.serve.live import watched_frames

    if camera is not None:
        return camera_frames(camera)
    return watched_frames(watch, LeftOut(warn)) if watch is not None else None


def _print_address(listener: socket.socket, token: str | None) -> None:
    from urllib.parse import quote

    address, port = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    if address in ("0.0.0.0", "::"):
        shown = socket.gethostname()
    fragment = "" if token is None else f"#token={quote(token, safe='')}"
    echo(f"Open http://{shown}:{port}/{fragment}")
