import hashlib
import http.server
import io
import itertools
import json
import logging
import re
import shutil
import threading
import zipfile
from dataclasses import dataclass, field

import numpy as np
import pytest
import tifffile

from nuclass_pipeline.data.xenium.download import download, fetch_slide
from nuclass_pipeline.data.xenium.locks import Record, read_lock
from nuclass_pipeline.errors import UserError

CONTENT = b"II*\0" + bytes(range(256)) * 4000
CONTENT = CONTENT[:1_024_000]
OTHER = CONTENT[:-1] + b"?"
HALF = len(CONTENT) // 2


@dataclass
class Site:
    """What the server sends, how it behaves, and the requests it got: pairs of path and `Range`."""

    files: dict[str, bytes]
    ranges: bool = True
    if_range: bool = True
    tag: str = '"v1"'
    length: bool = True
    chunked: bool = False
    break_after: int | None = None
    error: int | None = None
    shift: int = 0
    requests: list = field(default_factory=list)
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        wanted = self.headers["Range"]
        site.requests.append((self.path, wanted))
        if site.error or self.path not in site.files:
            self.send_error(site.error or 404)
            return
        body = site.files[self.path]
        current = not site.if_range or self.headers["If-Range"] == site.tag
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if site.ranges and wanted and current else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.answer(site, body, start)

    def answer(self, site, body, start):
        if site.chunked:
            self.protocol_version = "HTTP/1.1"
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + site.shift}-{len(body) - 1}/{len(body)}")
        if site.tag:
            self.send_header("ETag", site.tag)
        if site.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif site.length:
            self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Connection", "close")
        self.end_headers()
        end = len(body) if site.break_after is None else site.break_after
        if site.chunked:
            for at in range(start, end, 100_000):
                piece = body[at : min(at + 100_000, end)]
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n" if end == len(body) else b"")
        else:
            self.wfile.write(body[start:end])
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr("nuclass_pipeline.data.xenium.download.DOWNLOAD_BLOCK", 10_000)
    monkeypatch.setattr("nuclass_pipeline.data.xenium.download.RETRY_PAUSES_S", ())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.site = Site({"/file": CONTENT}, url=f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.site
        server.shutdown()


@pytest.fixture
def get(site, tmp_path):
    """Download /file with the lock file beside it."""

    def get():
        download(f"{site.url}/file", tmp_path / "a/file", tmp_path / "locks/lung-1.tsv")
        return (tmp_path / "a/file").read_bytes()

    return get


def on_disk(tmp_path):
    return sorted(path.name for path in (tmp_path / "a").iterdir())


def lock_text(site, *contents):
    rows = [f"lung-1\t{site.url}/file\t{len(content)}\t{hashlib.sha256(content).hexdigest()}\n" for content in contents]
    return "".join(["slide\turl\tbytes\tsha256\n", *rows])


def write_lock(site, tmp_path, content):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/lung-1.tsv").write_text(lock_text(site, content))


def break_off(site, get, after=HALF):
    site.break_after = after
    with pytest.raises(UserError) as error:
        get()
    site.break_after = None
    return str(error.value)


def test_a_file_arrives_whole_and_is_locked(site, get, tmp_path):
    assert get() == CONTENT
    assert on_disk(tmp_path) == ["file"]
    assert (tmp_path / "locks/lung-1.tsv").read_text() == lock_text(site, CONTENT)
    assert read_lock(tmp_path / "locks/lung-1.tsv") == {f"{site.url}/file": Record(1_024_000, hashlib.sha256(CONTENT).hexdigest())}


def test_a_broken_download_is_resumed_where_it_broke_off(site, get, tmp_path):
    message = break_off(site, get)
    assert message == f"{site.url}/file: download: broke off after 512,000 of 1,024,000 bytes. Run the same command again to continue."
    assert on_disk(tmp_path) == ["file.part", "file.part.json"]
    assert not (tmp_path / "locks").exists()
    assert break_off(site, get, 700_000).count("700,000 of 1,024,000")
    assert get() == CONTENT
    assert site.requests == [("/file", None), ("/file", "bytes=512000-"), ("/file", "bytes=700000-")]
    assert on_disk(tmp_path) == ["file"]
    assert (tmp_path / "locks/lung-1.tsv").read_text() == lock_text(site, CONTENT)


@pytest.mark.parametrize(
    "change",
    [
        {"ranges": False},
        {"tag": '"v2"'},
        {"tag": '"v2"', "if_range": False},
        {"shift": 7},
    ],
    ids=["no ranges", "changed", "changed and If-Range ignored", "another range"],
)
def test_a_part_that_cannot_be_resumed_is_downloaded_again(site, get, tmp_path, change):
    break_off(site, get)
    site.files["/file"] = OTHER[::-1]
    for name, value in change.items():
        setattr(site, name, value)
    assert get() == OTHER[::-1]
    assert on_disk(tmp_path) == ["file"]
    assert (tmp_path / "locks/lung-1.tsv").read_text() == lock_text(site, OTHER[::-1])


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_a_part_of_an_unknown_version_is_downloaded_again(site, get, tag):
    site.tag = tag
    break_off(site, get)
    site.files["/file"] = OTHER[::-1]
    assert get() == OTHER[::-1]
    assert site.requests == [("/file", None)] * 2


def test_a_part_of_another_url_is_downloaded_again(site, get, tmp_path):
    break_off(site, get)
    site.files["/moved"] = OTHER[::-1]
    download(f"{site.url}/moved", tmp_path / "a/file", tmp_path / "locks/lung-1.tsv")
    assert (tmp_path / "a/file").read_bytes() == OTHER[::-1]
    assert site.requests[1:] == [("/moved", None)]


def test_a_part_that_is_complete_is_put_in_place(site, get, tmp_path):
    (tmp_path / "locks").write_text("not a folder")
    with pytest.raises(
        UserError,
        match=r"lung-1.tsv: file: cannot be written .*\. Make its folder writable and run the same command again; the download is kept",
    ):
        get()
    assert (tmp_path / "a/file.part").read_bytes() == CONTENT
    (tmp_path / "locks").unlink()
    assert get() == CONTENT
    assert site.requests == [("/file", None), ("/file", "bytes=1024000-")]
    assert on_disk(tmp_path) == ["file"]


def test_an_old_part_is_gone_before_a_new_version_is_noted(site, get, tmp_path, monkeypatch):
    break_off(site, get)
    site.tag = '"v2"'
    monkeypatch.setattr("nuclass_pipeline.data.xenium.parts.write_json", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception, match="killed"):
        get()
    assert on_disk(tmp_path) == []


def test_what_follows_the_received_bytes_in_a_part_is_cut_off(site, get, tmp_path):
    break_off(site, get)
    (tmp_path / "a/file.part").write_bytes(CONTENT * 2)
    assert get() == CONTENT
    assert site.requests[1:] == [("/file", "bytes=512000-")]


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("damaged", [b"x" + CONTENT[1:HALF], CONTENT[: HALF - 1], b""], ids=["changed", "shorter", "empty"])
def test_a_damaged_part_is_downloaded_again_and_never_locked(site, get, tmp_path, locked, damaged):
    if locked:
        write_lock(site, tmp_path, CONTENT)
    break_off(site, get)
    (tmp_path / "a/file.part").write_bytes(damaged)
    assert get() == CONTENT
    assert site.requests == [("/file", None)] * 2
    assert (tmp_path / "locks/lung-1.tsv").read_text() == lock_text(site, CONTENT)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("wrong", "what"), [(OTHER, "sha256"), (CONTENT + b"?", "size"), (CONTENT[:-1], "size")])
def test_bytes_that_differ_from_the_lock_file_are_refused(site, get, tmp_path, wrong, what, known):
    get()
    (tmp_path / "a/file").unlink()
    site.files["/file"], site.length = wrong, known
    with pytest.raises(UserError) as error:
        get()
    expected, found = (hashlib.sha256(x).hexdigest() for x in (CONTENT, OTHER)) if what == "sha256" else (len(CONTENT), len(wrong))
    lock = tmp_path / "locks/lung-1.tsv"
    assert str(error.value) == (
        f"{site.url}/file: {what}: the file at the address changed: expected {expected}, found {found}. "
        f"If the publisher changed it, remove its row from {lock} and the slide's folder. Otherwise run the same command again."
    )
    assert on_disk(tmp_path) == []
    assert lock.read_text() == lock_text(site, CONTENT)
    lock.write_text(lock_text(site))
    assert get() == wrong
    assert lock.read_text() == lock_text(site, wrong)


def test_a_changed_size_is_refused_before_the_body_is_read(site, get, tmp_path, monkeypatch):
    write_lock(site, tmp_path, CONTENT + b"?")
    monkeypatch.setattr("nuclass_pipeline.data.xenium.download._copy", lambda *_: pytest.fail("the body was read"))
    with pytest.raises(UserError, match="size: the file at the address changed: expected 1024001, found 1024000"):
        get()


def test_a_present_file_is_kept_only_if_it_agrees_with_the_lock_file(site, get, tmp_path):
    get()
    assert get() == CONTENT
    assert len(site.requests) == 1
    (tmp_path / "a/file").write_bytes(OTHER)
    site.error = 500
    with pytest.raises(UserError, match="500"):
        get()
    assert on_disk(tmp_path) == []
    site.error = None
    assert get() == CONTENT
    assert len(site.requests) == 3


@pytest.mark.parametrize("chunked", [True, False])
def test_a_size_that_is_not_reported_is_not_needed(site, get, tmp_path, caplog, monkeypatch, chunked):
    monkeypatch.setattr("nuclass_pipeline.data.xenium.download.STEP_BYTES", 250_000)
    caplog.set_level(logging.INFO)
    site.length, site.chunked = False, chunked
    assert get() == CONTENT
    assert (tmp_path / "locks/lung-1.tsv").read_text() == lock_text(site, CONTENT)
    assert [record.getMessage() for record in caplog.records] == ["file.part: 0.00 GB, size unknown"] * 4


def test_a_chunked_answer_that_breaks_off_is_found_and_resumed(site, get):
    site.chunked = True
    assert "IncompleteRead" in break_off(site, get)
    assert get() == CONTENT
    assert site.requests[1][1].startswith("bytes=5")


def test_a_cut_answer_of_unknown_size_is_caught_by_the_lock(site, get, tmp_path):
    write_lock(site, tmp_path, CONTENT)
    site.length = False
    assert "expected 1024000, found 512000" in break_off(site, get)
    assert on_disk(tmp_path) == []


def test_the_log_reports_each_twentieth(get, caplog):
    caplog.set_level(logging.INFO)
    get()
    shares = [int(re.search(r"(\d+) %", record.getMessage())[1]) for record in caplog.records]
    assert len(shares) >= 17
    assert shares[0] <= 6
    assert max(b - a for a, b in itertools.pairwise(shares)) <= 6
    assert shares[-1] >= 94


@pytest.mark.parametrize(
    ("code", "remedy"), [(404, "Check the URL in the slide sheet."), (403, "Check the URL"), (429, "Run the same"), (500, "Run the same")]
)
def test_a_refusal_is_one_line_and_keeps_the_part(site, get, tmp_path, code, remedy):
    break_off(site, get)
    site.error = code
    with pytest.raises(UserError, match=rf"^{site.url}/file: download: HTTP Error {code}: .*\. {remedy}"):
        get()
    assert (tmp_path / "a/file.part").read_bytes() == CONTENT[:HALF]
    site.error = None
    assert get() == CONTENT


def test_a_server_that_is_not_there_is_one_line(site, tmp_path):
    with pytest.raises(UserError, match=r"download: .*refused.* Run the same command again"):
        download("http://127.0.0.1:1/file", tmp_path / "file", tmp_path / "lock.tsv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("free", "fits"), [(512_000, True), (511_999, False)])
def test_only_the_missing_bytes_must_fit_on_the_disk(site, get, tmp_path, monkeypatch, free, fits):
    break_off(site, get)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    if fits:
        assert get() == CONTENT
    else:
        with pytest.raises(UserError, match=r"disk: 0.0 GB needed, 0.0 GB free. Free some space"):
            get()
        assert (tmp_path / "a/file.part").stat().st_size == HALF


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns: found"),
        ("slide,url,bytes,sha256\n", "columns: found slide,url"),
        ("slide\turl\tbytes\tsha256\nlung-1\thttp://x\tmany\t" + "0" * 64, "line 2: is not a slide"),
        ("slide\turl\tbytes\tsha256\nlung-1\thttp://x\t1\t0", "line 2: is not a slide"),
        ("slide\turl\tbytes\tsha256\n<<<<<<< HEAD\n", "line 2: is not a slide"),
        ("slide\turl\tbytes\tsha256\n" + ("lung-1\thttp://x\t1\t" + "0" * 64 + "\n") * 2, "line 3: http://x occurs in two rows"),
    ],
)
def test_a_broken_lock_file_is_one_line(tmp_path, text, message):
    (tmp_path / "lock.tsv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_lock(tmp_path / "lock.tsv")


def tiff():
    """Return a TIFF of one RGB image."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), photometric="rgb", tile=(16, 16))
    return stream.getvalue()


@pytest.fixture
def slide(site, tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        bundle.writestr("outs/experiment.xenium", "{}")
        bundle.writestr("outs/cells.parquet", "cells")
    site.files |= {"/file": tiff(), "/b.zip": (tmp_path / "b.zip").read_bytes(), "/a.csv": b"2,0,0\n0,2,0\n0,0,1\n"}
    folder = tmp_path / "s"
    return {
        "bundle_url": f"{site.url}/b.zip",
        "image_url": f"{site.url}/file",
        "alignment_url": f"{site.url}/a.csv",
        "manifest": folder / "outs/experiment.xenium",
        "image": folder / "he.tif",
        "alignment": folder / "a.csv",
        "lock": tmp_path / "locks/lung-1.tsv",
    }


def test_a_slide_is_fetched_and_locked(site, slide, tmp_path):
    fetch_slide(**slide)
    assert sorted(str(path.relative_to(tmp_path / "s")) for path in (tmp_path / "s").rglob("*") if path.is_file()) == [
        "a.csv",
        "he.tif",
        "outs/cells.parquet",
        "outs/experiment.xenium",
    ]
    assert slide["alignment"].read_text().startswith("2,")
    assert list(read_lock(slide["lock"])) == [f"{site.url}/{name}" for name in ("file", "a.csv", "b.zip")]


def test_a_slide_without_alignment_gets_the_identity(slide):
    fetch_slide(**slide | {"alignment_url": ""})
    assert slide["alignment"].read_text() == "1,0,0\n0,1,0\n0,0,1\n"
    assert len(read_lock(slide["lock"])) == 2


def test_a_bundle_that_fails_leaves_the_downloaded_image(site, slide):
    """Snakemake removes the outputs of a failed job, so none may be in place by then."""
    whole = site.files.pop("/b.zip")
    with pytest.raises(UserError, match="404"):
        fetch_slide(**slide)
    assert not any(slide[name].exists() for name in ("manifest", "image", "alignment"))
    site.files["/b.zip"], site.requests = whole, []
    fetch_slide(**slide)
    assert site.requests == [("/b.zip", None)]
    assert slide["image"].read_bytes() == tiff()


def test_bundle_and_image_are_fetched_apart(site, slide, tmp_path):
    where = {name: slide.pop(name) for name in ("manifest", "image", "alignment")}
    fetch_slide(**slide, manifest=where["manifest"])
    assert where["manifest"].exists()
    assert list(read_lock(slide["lock"])) == [f"{site.url}/b.zip"]
    assert [name for name, _ in site.requests] == ["/b.zip"]
    fetch_slide(**slide, image=where["image"], alignment=where["alignment"])
    assert [name for name, _ in site.requests] == ["/b.zip", "/file", "/a.csv"]
    assert list(read_lock(slide["lock"])) == [f"{site.url}/{name}" for name in ("b.zip", "file", "a.csv")]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["a.csv", "he.tif", "outs"]


def test_a_wrong_url_is_found_before_any_download(site, slide):
    with pytest.raises(UserError, match=r"^/data/outs.zip: URL: "):
        fetch_slide(**slide | {"bundle_url": "/data/outs.zip"})
    assert site.requests == []


def test_the_version_is_remembered_beside_the_part(site, get, tmp_path):
    break_off(site, get)
    assert json.loads((tmp_path / "a/file.part.json").read_text()) == {
        "url": f"{site.url}/file",
        "validator": '"v1"',
        "size": len(CONTENT),
        "bytes": HALF,
        "sha256": hashlib.sha256(CONTENT[:HALF]).hexdigest(),
    }
