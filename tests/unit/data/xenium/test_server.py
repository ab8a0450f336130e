"""Servers that lie, send without end, redirect elsewhere or keep a secret in the address."""

import gzip
import http.server
import json
import logging
import multiprocessing
import os
import threading
import time
import zipfile

import pytest

from nuclass_pipeline.data.xenium import download as download_module
from nuclass_pipeline.data.xenium.download import download, fetch_slide
from nuclass_pipeline.data.xenium.locks import only_writer
from nuclass_pipeline.errors import UserError
from tests.unit.data.xenium.test_download import tiff

TIFF = b"II*\0" + bytes(range(256)) * 400


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, self.headers["Range"]))
        status, headers, body, more = self.server.pages[self.path.partition("?")[0]]
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
            while more:
                self.wfile.write(more)
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download_module, "RETRY_PAUSES_S", ())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.pages, server.seen, server.url = {}, [], f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def fetch(server, tmp_path):
    """Download one page and return the message of the refusal; nothing is locked or kept."""

    def fetch(status=200, headers=(), body=b"", more=b"", url="/file"):
        server.pages[url.partition("?")[0]] = (status, headers, body, more)
        with pytest.raises(UserError) as caught:
            download(f"{server.url}{url}", tmp_path / "a/file", tmp_path / "lock.tsv")
        assert not (tmp_path / "lock.tsv").exists()
        assert not (tmp_path / "a/file").exists()
        assert not list(tmp_path.glob("a/.*"))
        assert "\n" not in str(caught.value)
        assert str(caught.value).isprintable()
        return str(caught.value)

    return fetch


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x", "//evil.example/x"])
def test_no_other_scheme_or_host_is_followed(fetch, server, target):
    message = fetch(302, [("Location", target)])
    assert "it redirects to" in message or "HTTP Error 302" in message
    assert len(server.seen) == 1


@pytest.mark.parametrize("port", ["", ":1"])
def test_another_host_or_port_is_not_followed(fetch, port):
    target = f"https://files.example.org{port}/x?X-Amz-Signature=SECRET"
    message = fetch(302, [("Location", target)])
    assert f"it redirects to 'https://files.example.org{port}/x', but it is another host. If you trust it, name that" in message
    assert "SECRET" not in message


def test_a_redirect_on_this_machine_is_followed_for_tests(server, tmp_path):
    server.pages["/old"] = (301, [("Location", "/file")], b"", b"")
    server.pages["/file"] = (200, [("Content-Length", str(len(TIFF)))], TIFF, b"")
    download(f"{server.url}/old", tmp_path / "file", tmp_path / "lock.tsv")
    assert (tmp_path / "file").read_bytes() == TIFF
    assert f"{server.url}/old\t" in (tmp_path / "lock.tsv").read_text()


def test_a_redirect_to_a_missing_file_is_the_error_of_that_file(fetch, server):
    server.pages["/gone"] = (404, [], b"", b"")
    assert "HTTP Error 404: Not Found" in fetch(302, [("Location", "/gone")])


def test_a_loop_of_redirects_ends(fetch, server):
    assert "it redirects to '/file', and to no file. Download it yourself" in fetch(302, [("Location", "/file")])
    assert len(server.seen) < 12


def test_a_body_longer_than_declared_is_refused(fetch, tmp_path):
    message = fetch(headers=[("Content-Length", "1000")], body=TIFF)
    assert "size: the server sends more bytes than the 1,000 that it declares. Download it yourself" in message
    assert list((tmp_path / "a").iterdir()) == []


def test_a_body_shorter_than_declared_is_never_taken_for_whole(fetch, server, tmp_path):
    headers = [("Content-Length", "200000"), ("ETag", '"v"')]
    assert f"broke off after {len(TIFF):,} of 200,000 bytes" in fetch(headers=headers, body=TIFF)
    # The server then says that the shorter file is all there is.
    message = fetch(416, [("Content-Range", f"bytes */{len(TIFF)}"), ("Content-Length", "0")])
    assert f"the server declares 200,000 bytes, then {len(TIFF):,}" in message


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([("Content-Length", "12"), ("Content-Length", "13")], "declares the sizes '12, 13'"),
        ([("Content-Length", "-1")], "declares the sizes '-1'"),
        ([("Content-Length", "many")], "declares the sizes 'many'"),
        ([("Content-Length", "9" * 30)], "declares the sizes '999"),
        ([("Content-Length", str(10**16))], "disk: 10000000.0 GB needed"),
        ([("Content-Encoding", "gzip")], "the server sends it compressed ('gzip')"),
        ([("Content-Encoding", "br")], "the server sends it compressed ('br')"),
    ],
)
def test_headers_that_cannot_be_followed_are_one_line(fetch, headers, message):
    assert message in fetch(headers=headers, body=gzip.compress(TIFF))


def test_an_endless_file_stops_at_the_most_that_is_documented(fetch, monkeypatch, tmp_path):
    monkeypatch.setattr(download_module, "MAX_UNSIZED", 30_000_000)
    begun = time.monotonic()
    message = fetch(body=TIFF, more=bytes(1 << 20))
    assert "size: the server sends more bytes than 30,000,000, and declares no size. Download it yourself" in message
    assert time.monotonic() - begun < 5
    assert list((tmp_path / "a").iterdir()) == []


def test_an_endless_file_after_its_declared_end_stops_at_once(fetch):
    assert "more bytes than the 10 that" in fetch(headers=[("Content-Length", "10")], more=bytes(1 << 16))


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><html>Sign in", b"\xef\xbb\xbf\n<?xml version='1.0'?><Error/>", b""])
def test_a_page_in_place_of_the_file_is_refused(fetch, tmp_path, body):
    message = fetch(headers=[("Content-Length", str(len(body)))], body=body)
    assert "the server sent a" in message
    assert "Check the URL in the slide sheet" in message
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize("status", [204, 206])
def test_another_status_is_no_file(fetch, status):
    assert f"answers with status {status}" in fetch(status, body=TIFF)


def test_a_reason_of_the_server_is_not_printed(fetch, server):
    server.pages["/file"] = None
    assert "HTTP Error 404: Not Found. Check the URL" in fetch(404)


SECRETS = ["X-Amz-Signature=Se-Cr-Et", "token=Se-Cr-Et", "sv=2020&sig=Se-Cr-Et", "Expires=1&Key-Pair-Id=Se-Cr-Et", "a=1;apikey=Se-Cr-Et"]


@pytest.mark.parametrize("query", SECRETS)
def test_what_lets_someone_in_is_written_nowhere(server, tmp_path, caplog, query):
    caplog.set_level(logging.DEBUG)
    server.pages["/file"] = (200, [("Content-Length", str(len(TIFF))), ("ETag", '"v"')], TIFF[:50_000], b"")
    with pytest.raises(UserError) as caught:
        download(f"{server.url}/file?{query}", tmp_path / "a/file", tmp_path / "lock.tsv")
    assert json.loads((tmp_path / "a/file.part.json").read_text())["bytes"] == 50_000
    found = [str(caught.value), caplog.text, *(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())]
    server.pages["/file"] = (200, [("Content-Length", str(len(TIFF)))], TIFF, b"")
    download(f"{server.url}/file?{query}", tmp_path / "a/file", tmp_path / "lock.tsv")
    found += [caplog.text, (tmp_path / "lock.tsv").read_text()]
    assert not [text for text in found if "Se-Cr-Et" in text]
    assert (tmp_path / "lock.tsv").read_text().splitlines()[1].startswith(f"lock\t{server.url}/file\t{len(TIFF)}\t")
    assert server.seen[-1][0] == f"/file?{query}"
    # A new signature is the same file.
    before = len(server.seen)
    download(f"{server.url}/file?{query.replace('Se-Cr-Et', 'other')}", tmp_path / "a/file", tmp_path / "lock.tsv")
    assert len(server.seen) == before


def test_only_errors_of_the_network_are_tried_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "RETRY_PAUSES_S", (0, 0, 0))
    server.pages["/file"] = (200, [("Content-Length", "200000"), ("ETag", '"v"')], TIFF, b"")
    with pytest.raises(UserError, match="broke off"):
        download(f"{server.url}/file", tmp_path / "file", tmp_path / "lock.tsv")
    assert len(server.seen) >= 4
    (tmp_path / "lock.tsv").write_text(f"slide\turl\tbytes\tsha256\nlock\t{server.url}/file\t{len(TIFF)}\t{'0' * 64}\n")
    server.pages["/file"], server.seen[:] = (200, [("Content-Length", str(len(TIFF)))], TIFF, b""), []
    with pytest.raises(UserError, match="sha256: the file at the address changed"):
        download(f"{server.url}/file", tmp_path / "other", tmp_path / "lock.tsv")
    assert len(server.seen) == 1
    server.pages["/file"], server.seen[:] = (403, [], b"", b""), []
    with pytest.raises(UserError, match="403"):
        download(f"{server.url}/file", tmp_path / "other", tmp_path / "lock.tsv")
    assert len(server.seen) == 1


def hold(path, taken, leave):
    with only_writer(path):
        taken.set()
        leave.wait(20)


def test_a_second_download_of_a_file_stops_in_one_line(server, tmp_path):
    server.pages["/file"] = (200, [("Content-Length", str(len(TIFF)))], TIFF, b"")
    context = multiprocessing.get_context("fork")
    taken, leave = context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path / "file", taken, leave))
    first.start()
    taken.wait(20)
    with pytest.raises(UserError, match=r"file: file: another process is downloading it. Wait until it has ended"):
        download(f"{server.url}/file", tmp_path / "file", tmp_path / "lock.tsv")
    first.kill()
    first.join()
    download(f"{server.url}/file", tmp_path / "file", tmp_path / "lock.tsv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "lock.tsv"]


@pytest.mark.parametrize("name", ["file.part", "file.part.json", ".file.busy", "file"])
def test_nothing_is_written_through_a_planted_link(server, tmp_path, name):
    server.pages["/file"] = (200, [("Content-Length", str(len(TIFF))), ("ETag", '"v"')], TIFF, b"")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).symlink_to(victim)
    try:
        download(f"{server.url}/file", tmp_path / "a/file", tmp_path / "lock.tsv")
    except UserError as error:
        assert name == ".file.busy"
        assert "remove what is in its place" in str(error)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("name", ["file.part", "file.part.json", "file", "lock.tsv"])
def test_a_planted_pipe_does_not_wait(server, tmp_path, name):
    server.pages["/file"] = (200, [("Content-Length", str(len(TIFF))), ("ETag", '"v"')], TIFF, b"")
    os.mkfifo(tmp_path / name)
    begun = time.monotonic()
    try:
        download(f"{server.url}/file", tmp_path / "file", tmp_path / "lock.tsv")
    except UserError as error:
        assert "pipe" in str(error)
    assert time.monotonic() - begun < 5


def test_a_hard_link_in_place_of_a_part_is_not_written_through(server, tmp_path):
    server.pages["/file"] = (200, [("Content-Length", "200000"), ("ETag", '"v"')], TIFF, b"")
    with pytest.raises(UserError, match="broke off"):
        download(f"{server.url}/file", tmp_path / "file", tmp_path / "lock.tsv")
    (tmp_path / "victim").write_bytes(TIFF)
    (tmp_path / "file.part").unlink()
    os.link(tmp_path / "victim", tmp_path / "file.part")
    with pytest.raises(UserError, match=r"file.part: file: is also in another place"):
        download(f"{server.url}/file", tmp_path / "file", tmp_path / "lock.tsv")
    assert (tmp_path / "victim").read_bytes() == TIFF


@pytest.fixture
def slide(server, tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        bundle.writestr("outs/experiment.xenium", "{}" * 5000)
    whole = (tmp_path / "b.zip").read_bytes()
    for name, content in (("/b.zip", whole), ("/he.tif", tiff()), ("/a.csv", b"1,0,0\n0,1,0\n0,0,1\n")):
        server.pages[name] = (200, [("Content-Length", str(len(content)))], content, b"")
    return {
        "bundle_url": f"{server.url}/b.zip",
        "image_url": f"{server.url}/he.tif",
        "alignment_url": f"{server.url}/a.csv",
        "manifest": tmp_path / "s/outs/experiment.xenium",
        "image": tmp_path / "s/he.tif",
        "alignment": tmp_path / "s/a.csv",
        "lock": tmp_path / "lung-1.tsv",
    }


def test_a_damaged_archive_is_not_locked(server, slide, tmp_path):
    status, headers, whole, _ = server.pages["/b.zip"]
    damaged = whole[:2000] + b"?" + whole[2001:]
    server.pages["/b.zip"] = (status, headers, damaged, b"")
    with pytest.raises(UserError, match=r"/b.zip: file: not a readable archive.* the same command downloads it again"):
        fetch_slide(**slide)
    assert "b.zip" not in slide["lock"].read_text()
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name or "outs.fetched" in path.name or path.name.startswith(".")]
    server.pages["/b.zip"] = (status, headers, whole, b"")
    fetch_slide(**slide)
    assert slide["manifest"].read_text() == "{}" * 5000
    assert "b.zip" in slide["lock"].read_text()
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["a.csv", "he.tif", "outs"]


@pytest.mark.parametrize(("name", "message"), [("/b.zip", "neither zip nor tar"), ("/he.tif", "not a TIFF; it begins with b'plain te'")])
def test_another_kind_of_file_is_refused(server, slide, name, message):
    server.pages[name] = (200, [("Content-Length", "10")], b"plain text", b"")
    with pytest.raises(UserError, match=message):
        fetch_slide(**slide)


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("/he.tif", lambda whole: whole[: len(whole) // 2], "he.tif: .* not kept"),
        ("/a.csv", gzip.compress, "a.csv: file: it is compressed by gzip, not text"),
        ("/a.csv", lambda _: b"hello", "a.csv: .* not kept"),
    ],
)
def test_a_file_that_is_cut_or_packed_is_not_locked(server, slide, name, part, message):
    status, _, whole, _ = server.pages[name]
    body = part(whole)
    server.pages[name] = (status, [("Content-Length", str(len(body)))], body, b"")
    with pytest.raises(UserError, match=message):
        fetch_slide(**slide)
    assert not slide["lock"].exists() or name not in slide["lock"].read_text()
    server.pages[name] = (status, [("Content-Length", str(len(whole)))], whole, b"")
    fetch_slide(**slide)


def test_two_files_need_two_addresses(slide):
    urls = {"bundle_url": "https://x.org/get?id=1&token=a", "image_url": "https://x.org/get?id=2&token=a"}
    with pytest.raises(UserError, match=r"^https://x.org/get: URL: two files of the slide have one address"):
        fetch_slide(**slide | urls)
