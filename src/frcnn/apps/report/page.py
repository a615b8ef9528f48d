"""A page from its parts: the template, the style and the script that lie beside this file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from string import Template

from frcnn.apps.report.markup import text


def assemble(
    title: str,
    subtitle: str,
    panels: Mapping[str, tuple[str, str]],
    pictures: str,
    footer: str,
) -> str:
    """One HTML page, which loads nothing.

    Args:
        title: of the page.
        subtitle: below it.
        panels: name (letters) -> title and HTML; empty ones are left out.
        pictures: JSON for the script, as ``markup.embedded`` gives it.
        footer: a text.
    """
    style, script = _file("style.css"), _file("script.js")
    filled = {name: part for name, part in panels.items() if part[1]}
    # Nothing but these may run or be fetched, whatever a name in the page tried.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    return Template(_file("page.html")).substitute(
        policy=policy,
        title=text(title),
        subtitle=text(subtitle),
        style=style,
        script=script,
        tabs="".join(
            f'<button role="tab" id="tab-{name}" data-panel="{name}" aria-controls="{name}">'
            f"{text(heading)}</button>"
            for name, (heading, _) in filled.items()
        ),
        panels="".join(
            f'<section role="tabpanel" id="{name}" aria-labelledby="tab-{name}">'
            f"<h2>{text(heading)}</h2>{body}</section>"
            for name, (heading, body) in filled.items()
        ),
        pictures=pictures,
        footer=text(footer),
    )


def _file(name: str) -> str:
    return resources.files("frcnn.apps.report").joinpath(name).read_text("utf-8")


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
