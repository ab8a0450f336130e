import http.server
import threading
import zipfile
from typing import ClassVar

import pytest

from nuclass_pipeline.data.fetch import download, fetch_slide, unpack
from nuclass_pipeline.errors import UserError

CONTENT = bytes(range(256)) * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    """A server that knows ranges, and breaks off in the middle of /broken the first time."""

    files: ClassVar[dict[str, bytes]] = {}
    ranges = True
    broken_once: ClassVar[set[str]] = set()

    def do_GET(self):
        body = self.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(self.headers["Range"].split("=")[1].split("-")[0]) if self.ranges and "Range" in self.headers else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.path == "/broken" and self.path not in self.broken_once:
            self.broken_once.add(self.path)
            body = body[: len(body) // 2]
        self.wfile.write(body[start:])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    Handler.files, Handler.ranges, Handler.broken_once = {"/file": CONTENT, "/broken": CONTENT}, True, set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_file_arrives_whole(server, tmp_path):
    download(f"{server}/file", tmp_path / "a/file")
    assert (tmp_path / "a/file").read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_or_starts_again(server, tmp_path, ranges):
    Handler.ranges = ranges
    with pytest.raises(UserError, match=r"broke off|IncompleteRead"):
        download(f"{server}/broken", tmp_path / "file")
    assert not (tmp_path / "file").exists()
    download(f"{server}/broken", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_file_is_one_line(server, tmp_path):
    with pytest.raises(UserError, match="404"):
        download(f"{server}/nowhere", tmp_path / "file")


def make_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_bundle_loses_its_top_folder(tmp_path):
    archive = make_zip(tmp_path / "outs.zip", {"outs/experiment.xenium": "{}", "outs/sub/cells.parquet": "x", "other/readme": "y"})
    unpack(archive, tmp_path / "bundle/experiment.xenium")
    assert sorted(str(p.relative_to(tmp_path / "bundle")) for p in (tmp_path / "bundle").rglob("*.*")) == [
        "experiment.xenium",
        "sub/cells.parquet",
    ]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"readme": "x"}, "experiment.xenium: is not in the archive"),
        ({"experiment.xenium": "{}", "../escape.txt": "x"}, "lies outside"),
        ({"experiment.xenium": "{}", "/etc/escape.txt": "x"}, "lies outside"),
    ],
)
def test_a_wrong_archive_leaves_no_manifest(tmp_path, members, message):
    with pytest.raises(UserError, match=message):
        unpack(make_zip(tmp_path / "outs.zip", members), tmp_path / "bundle/experiment.xenium")
    assert not (tmp_path / "bundle/experiment.xenium").exists()
    assert not (tmp_path / "escape.txt").exists()


def test_no_archive_at_all(tmp_path):
    (tmp_path / "outs.zip").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable zip"):
        unpack(tmp_path / "outs.zip", tmp_path / "bundle/experiment.xenium")


def test_a_slide_without_alignment_gets_the_identity(server, tmp_path):
    make_zip(tmp_path / "b.zip", {"outs/experiment.xenium": "{}"})
    Handler.files |= {"/b.zip": (tmp_path / "b.zip").read_bytes()}
    files = {"manifest": tmp_path / "s/outs/experiment.xenium", "image": tmp_path / "s/he.tif", "alignment": tmp_path / "s/a.csv"}
    fetch_slide(bundle_url=f"{server}/b.zip", image_url=f"{server}/file", alignment_url="", **files)
    assert files["alignment"].read_text() == "1,0,0\n0,1,0\n0,0,1\n"
    assert all(path.exists() for path in files.values())
