"""Addresses of downloads: which are read, and how they are shown."""

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from nuclass_pipeline.errors import UserError

HERE = ("localhost", "127.0.0.1", "::1")
REDIRECT_HOSTS = ("cf.10xgenomics.com",)
"""Hosts that any other host may redirect to."""
_PORTS = {"https": 443, "http": 80}
# Names of what signs an address or lets someone in; each change of it would also look like another file.
_SECRET = re.compile(r"^x-(amz|goog|ms)-|sig|token|key|secret|pass|auth|credential|policy|expires|session|jwt", re.IGNORECASE)


def address_problem(url: str) -> str:
    """Return why nothing is downloaded from an address; empty where something is."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "it has a blank, a backslash, or a character that an address cannot hold"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        return f"it is not an address ({error})"
    if parts.scheme not in _PORTS:
        return "it does not start with https:// or http://"
    if not host or port == 0:
        return "it names no host"
    return "it holds a user name or a password" if "@" in parts.netloc else ""


def show_address(url: str) -> str:
    """Return an address without what lets someone in: its query is dropped where any part of it looks like a signature or a key."""
    try:
        parts = urlsplit(url)
        names = [name for name, _ in parse_qsl(parts.query.replace(";", "&"), keep_blank_values=True)]
    except ValueError:
        return url.partition("?")[0]
    secret = any(_SECRET.search(name) for name in names)
    query = "" if secret else parts.query
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def check_address(url: str) -> None:
    """Raise a `UserError` if nothing is downloaded from an address."""
    if problem := address_problem(url):
        remedy = "Correct it in the slide sheet; leave all URLs of the row empty to use your own files."
        raise UserError(show_address(url) or "slide sheet", "URL", f"{show_address(url)!r}: {problem}", remedy)


def check_redirect(url: str, target: str) -> None:
    """Raise a `UserError` if `url` may not redirect to `target`: another host, or without encryption."""
    problem = address_problem(target)
    if not problem:
        before, after = urlsplit(url), urlsplit(target)
        local = before.scheme == "http" and before.hostname in HERE
        if after.scheme != "https" and not (local and after.hostname in HERE):
            problem = "it is not encrypted"
        elif _site(url) != _site(target) and after.hostname not in REDIRECT_HOSTS:
            problem = "it is another host"
    if problem:
        remedy = "If you trust it, name that address in the slide sheet instead."
        raise UserError(show_address(url), "URL", f"it redirects to {show_address(target)[:200]!r}, but {problem}", remedy)


def _site(url: str) -> tuple[str | None, int | None]:
    """Return host and port; the usual port of any scheme is None."""
    parts = urlsplit(url)
    return parts.hostname, None if parts.port == _PORTS[parts.scheme] else parts.port
