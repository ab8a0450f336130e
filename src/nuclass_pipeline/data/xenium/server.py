"""Requests to a server: the file from a byte on, over HTTP, without surprises."""

import io
import logging
import re
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPMessage
from typing import IO, Any, NamedTuple

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.addresses import check_redirect, show_address

logger = logging.getLogger(__name__)

TIMEOUT_S = 30
"""Longest wait for an answer, or for its next bytes."""
YOURSELF = "Download it yourself, leave all URLs of the row empty, and name your files."


class Body(NamedTuple):
    """A server's answer.

    Attributes
    ----------
    stream
        Bytes of the file from `start` on.
    start
        Bytes that need not be sent again; 0 for the whole file.
    size
        Size of the whole file, where the server reports it.
    validator
        ETag or date of the version; empty where the download could not be resumed.
    """

    stream: IO[bytes]
    start: int
    size: int | None
    validator: str


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Message, newurl: str) -> urllib.request.Request | None:
        check_redirect(req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]

    # Said here, because urllib gives up a chain without an end, and a scheme that is not of the web, with nothing but the status.
    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: HTTPMessage) -> Any:
        """Open what a redirect leads to; one that leads nowhere is a `UserError`."""
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except urllib.error.HTTPError as error:
            if error.code >= 400:  # of the server that it leads to
                raise
            target = show_address(str(headers.get("Location", "")))[:200]
            raise UserError(show_address(req.full_url), "download", f"it redirects to {target!r}, and to no file", YOURSELF) from error

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> urllib.request.OpenerDirector:
    """Build an opener for HTTP alone, because that of urllib also opens files and FTP servers."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def request_file(url: str, start: int = 0, validator: str = "") -> Body:
    """Request the bytes after the first `start`, or the whole file where the server cannot resume or has another version.

    Raises
    ------
    UserError
        If the server redirects to where nothing is downloaded from, or sends something else than the bytes of the file.
    OSError
        If there is no answer, or an error as `urllib.error.HTTPError`.
    """
    if start:
        try:
            response = _ask(url, {"Range": f"bytes={start}-", "If-Range": validator})
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            # 416 with this size means that the part is complete already, because only the lock file or the rename was missing.
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return Body(io.BytesIO(), start, start, validator)
        else:
            # The range and the version are checked again, because some servers ignore If-Range or send another range.
            span = re.fullmatch(rf"bytes {start}-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if response.status == 206 and span and _version(response.headers) in ("", validator):
                _declared_size(url, response)
                return Body(response, start, int(span[1]) if span[1] != "*" else None, validator)
            response.close()
        logger.info("%s: cannot be resumed after %d bytes, or has changed on the server; starting again", show_address(url), start)
    response = _ask(url, {})
    if response.status != 200:
        raise UserError(show_address(url), "download", f"the server answers with status {response.status}", YOURSELF)
    return Body(response, 0, _declared_size(url, response), _version(response.headers))


def _ask(url: str, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "nuclass-pipeline", **headers})
    return _opener().open(request, timeout=TIMEOUT_S)


def _declared_size(url: str, response: Any) -> int | None:
    """Return the number of bytes that the answer declares; from then on it is read to the end of the connection."""
    headers = response.headers
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        # Refused, because its size, its hash and its parts would be those of the compressed bytes.
        raise UserError(show_address(url), "download", f"the server sends it compressed ({encoding[:20]!r})", YOURSELF)
    declared = {str(value).strip() for value in headers.get_all("Content-Length") or []}
    if response.chunked or not declared:
        return None
    (size, *others) = declared
    if others or not re.fullmatch("[0-9]{1,18}", size):
        problem = f"the server declares the sizes {', '.join(sorted(declared))[:60]!r}"
        raise UserError(show_address(url), "download", problem, YOURSELF)
    # Because http.client stops at the declared size, and what follows it shows that the size is untrue.
    response.length = None
    return int(size)


def _version(headers: Message) -> str:
    """Return what `If-Range` takes (RFC 9110, 13.1.5): a strong ETag, else the date of the last change, else nothing."""
    tag = str(headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))
