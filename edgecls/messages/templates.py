"""Load the templates of pages. They escape what they show, and put no control characters into a page."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edgecls.errors import MissingDependency
from edgecls.messages.names import safe
from edgecls.messages.numbers import percent

if TYPE_CHECKING:
    import jinja2


def load_template(package: str, name: str, page: str) -> jinja2.Template:
    """Return the template in the file `name` of a package; `page` is its page's name in an error, such as "the report".

    Raises:
        MissingDependency: Jinja is not installed.
    """
    if find_spec("jinja2") is None:
        raise MissingDependency(f"{page} needs Jinja: pip install 'edgecls[train]'")
    import jinja2

    environment = jinja2.Environment(
        # A macro returns a subclass of str that is escaped already.
        finalize=lambda value: safe(value) if type(value) is str else value,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.from_string(resources.files(package).joinpath(name).read_text("utf-8"))
