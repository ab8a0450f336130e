"""The frame of an HTML page: one file with its style and script, which needs no other file and no network."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nuclass_pipeline.schemas import JOINED


def render(template: str, **values: Any) -> str:
    """Return a page.

    Parameters
    ----------
    template
        Template in this folder, which extends `base.html`.
    **values
        Its variables; `heading` is the title, and `contents` lists the sections: `id`, `name`, and perhaps `parts` of the same keys.
        Text is escaped.
    """
    loader = PackageLoader("nuclass_pipeline.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["JOINED"] = JOINED
    style, script = (files("nuclass_pipeline.report").joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    # The browser runs this script and no other, because names of slides and cells come from elsewhere.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(values, style=Markup(style), script=Markup(script), script_hash=digest)
