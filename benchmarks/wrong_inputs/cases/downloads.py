"""Downloads from a server that misbehaves, through the job that fetches a slide."""
# ruff: noqa: E501 -- a case is a row of a table.

import gzip
import http.server
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.wrong_inputs.case import Case, Step, both, nothing, stage
from benchmarks.wrong_inputs.cases.archives import zipped

Answer = Callable[[http.server.BaseHTTPRequestHandler, bytes], None]
FILES = {"/outs.zip": "a.zip", "/he.ome.tif": "he.ome.tif", "/alignment.csv": "alignment.csv"}


def right(handler: http.server.BaseHTTPRequestHandler, content: bytes, **headers: str) -> None:
    """Answer with the whole file."""
    handler.send_response(200)
    for name, value in ({"Content-Length": str(len(content))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def status(code: int, text: bytes = b"<html>no</html>") -> Answer:
    """Return what answers with a status."""

    def answer(handler: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def redirect(to: str) -> Answer:
    """Return what sends elsewhere."""

    def answer(handler: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def endless(handler: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    """Send zeros for ever, without a size."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 20))


def short(handler: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    """Declare less than the file, and send that."""
    right(handler, content[: len(content) // 2])


def broken(handler: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    """Declare the file, and send half of it."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def more(handler: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    """Declare a part, and send all."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) - 50))
    handler.end_headers()
    handler.wfile.write(content)


def silent(handler: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    """Send a few bytes and then nothing."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:100])
    handler.wfile.flush()
    time.sleep(600)


def fetch(
    answers: dict[str, Answer] | None = None, urls: dict[str, str] | None = None, times: int = 1, query: str = "", between: Step = nothing
) -> Step:
    """Return the job that fetches a slide, from a server of this process; `answers` by path, `urls` in place of its own."""

    def run() -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                content = Path(FILES[path]).read_bytes() if path in FILES else b""
                (answers or {}).get(path, right)(self, content)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        Path("got").mkdir(exist_ok=True)
        named = {
            "bundle_url": f"{base}/outs.zip{query}",
            "image_url": f"{base}/he.ome.tif",
            "alignment_url": f"{base}/alignment.csv",
            **(urls or {}),
        }
        paths = {"manifest": Path("got/outs/experiment.xenium"), "image": Path("got/he.ome.tif"), "alignment": Path("got/a.csv")}
        for number in range(times):
            if number:
                between()
            stage("data.xenium.download:fetch_slide", **named, **paths, lock=Path("locks/mine-1.tsv"))()

    return run


def _fetched() -> None:
    assert Path("got/outs/cells.parquet").read_bytes() == Path("outs/cells.parquet").read_bytes()
    assert Path("got/he.ome.tif").read_bytes() == Path("he.ome.tif").read_bytes()
    assert len(Path("locks/mine-1.tsv").read_text().splitlines()) == 4


def _no_secret() -> None:
    _fetched()
    for path in (Path("locks/mine-1.tsv"), Path("job.log")):
        assert "TOPSECRET" not in path.read_text(), f"the signature is in {path}"


def _changed() -> None:
    shutil.rmtree("got")
    Path("got").mkdir()
    Path("he.ome.tif").write_bytes(Path("he.ome.tif").read_bytes() + b"more")


def _case(name: str, wrong: str, door: Step, says: str = "http", make: Step = nothing, **named: Any) -> Case:
    return Case("downloads", name, wrong, both(zipped(), make), door, says=says, cpu_s=named.pop("cpu_s", 10.0), **named)


BUNDLE, IMAGE, ALIGNMENT = "/outs.zip", "/he.ome.tif", "/alignment.csv"
CASES = [
    _case("right", "nothing", fetch(), expects="accepted", check=_fetched),
    _case("twice", "fetched again over itself", fetch(times=2), expects="accepted", check=_fetched),
    _case("signed", "a signature in the query", fetch(query="?X-Amz-Signature=TOPSECRET"), expects="accepted", check=_no_secret),
    _case("signed and gone", "an expired signature", fetch({BUNDLE: status(403)}, query="?X-Amz-Signature=TOPSECRET"), "^(?!.*TOPSECRET).*403"),
    _case("404", "not found", fetch({BUNDLE: status(404)}), "404"),
    _case("500", "server error", fetch({BUNDLE: status(500)}), "500"),
    _case("login page", "HTML with 200", fetch({IMAGE: status(200)}), "he.ome.tif"),
    _case("login page for the alignment", "HTML with 200", fetch({ALIGNMENT: status(200)}), "alignment"),
    _case("empty file", "0 bytes", fetch({BUNDLE: status(200, b"")}), "outs.zip"),
    _case("redirect to a file", "file:///etc/passwd", fetch({BUNDLE: redirect("file:///etc/passwd")}), "redirect|file:"),
    _case("redirect to another host", "http://example.org", fetch({BUNDLE: redirect("http://example.org/x.zip")}), "redirect"),
    _case("redirect to the metadata service", "http://169.254.169.254", fetch({BUNDLE: redirect("http://169.254.169.254/latest")}), "redirect"),
    _case("redirect for ever", "to itself", fetch({BUNDLE: redirect("/outs.zip")}), "redirect"),
    _case("redirect to ftp", "ftp://", fetch({BUNDLE: redirect("ftp://127.0.0.1/x.zip")}), "redirect"),
    _case("endless", "no size, no end", fetch({ALIGNMENT: endless}), "alignment"),
    _case("endless image", "no size, no end", fetch({IMAGE: endless}), "he.ome.tif"),
    _case("short size", "Content-Length of half", fetch({BUNDLE: short}), "outs.zip"),
    _case("short image", "Content-Length of half", fetch({IMAGE: short}), "he.ome.tif"),
    _case("broken off", "half is sent", fetch({BUNDLE: broken}), "outs.zip"),
    _case("more than declared", "longer than its size", fetch({ALIGNMENT: more}), "alignment", expects="refused"),
    _case("size negative", "Content-Length -1", fetch({ALIGNMENT: lambda h, c: right(h, c, Content_Length="-1")}), "alignment", expects="refused or accepted"),
    _case("size huge", "Content-Length 10¹⁵", fetch({BUNDLE: lambda h, c: right(h, c, Content_Length=str(10**15))}), "outs.zip|disk|space"),
    _case("size text", "Content-Length abc", fetch({ALIGNMENT: lambda h, c: right(h, c, Content_Length="abc")}), "alignment", expects="refused or accepted"),
    _case("gzip in transit", "Content-Encoding gzip", fetch({ALIGNMENT: lambda h, c: right(h, gzip.compress(c), Content_Encoding="gzip")}), "alignment"),
    _case("gzip not told", "gzip without a header", fetch({ALIGNMENT: lambda h, c: right(h, gzip.compress(c))}), "alignment"),
    _case("zip as image", "addresses exchanged", fetch({IMAGE: lambda h, c: right(h, Path("a.zip").read_bytes())}), "he.ome.tif"),
    _case("silent server", "nothing after 100 bytes", fetch({ALIGNMENT: silent}), "alignment", cpu_s=40.0),
    _case("no server", "connection refused", fetch(urls={"bundle_url": "http://127.0.0.1:9/outs.zip"}), "127.0.0.1:9"),
    _case("no such host", "name not found", fetch(urls={"bundle_url": "http://no-such-host.invalid/outs.zip"}), "no-such-host", expects="refused"),
    _case("file address", "file:///etc/passwd", fetch(urls={"alignment_url": "file:///etc/passwd"}), "alignment_url|file:"),
    _case("changed on the server", "another image than the locked one", fetch(times=2, between=_changed), "mine-1.tsv"),
    _case("lock damaged", "a lock that is text", fetch(), "mine-1.tsv", lambda: (Path("locks").mkdir(), Path("locks/mine-1.tsv").write_text("hello"))),
    _case("planted link at the image", "a link waits at the place of the image", fetch(), "", lambda: (Path("got").mkdir(), Path("got/he.ome.tif").symlink_to("../../outside/target.txt")),
          expects="accepted or refused"),
    _case("planted link at the partial", "a link waits at a temporary name", fetch(), "", lambda: (Path("got").mkdir(), Path("got/.he.ome.tif.partial").symlink_to("../../outside/target.txt"),
          Path("got/he.ome.tif.partial").symlink_to("../../outside/target.txt"), Path("got/he.ome.tif.part").symlink_to("../../outside/target.txt")), expects="accepted or refused"),
]  # fmt: skip
