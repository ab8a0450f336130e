import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nuclass_pipeline.data.segmentation.cellpose import cellpose_nuclei
from nuclass_pipeline.errors import UserError

TILE = np.full((200, 240, 3), 230, np.uint8)
TILE[80:112, 60:92] = (90, 60, 120)


class NoNetwork(AssertionError):
    pass


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise NoNetwork

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


class StandIn:
    """Cellpose's class where Cellpose is not installed: it downloads where the path names no file, and ignores missing tensors."""

    def __init__(self, pretrained_model, gpu, use_bfloat16):
        try:
            self.state = torch.load(pretrained_model, weights_only=True)
        except FileNotFoundError:
            socket.create_connection(("huggingface.co", 443))
        assert use_bfloat16 == gpu
        self.net = SimpleNamespace(state_dict=lambda: dict.fromkeys(("W2", "out.weight", "encoder.pos_embed", "diam_mean")))

    def eval(self, tile):
        return (tile[..., 1] < 128).astype(np.uint16), [], None


@pytest.fixture
def stand_in(monkeypatch, offline):
    monkeypatch.setitem(sys.modules, "cellpose", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cellpose.models", SimpleNamespace(CellposeModel=StandIn))


def save(path, *names):
    torch.save({name: torch.zeros(2) for name in names}, path)
    return path


def test_the_stand_in_would_download(stand_in, tmp_path):
    with pytest.raises(NoNetwork):
        StandIn(str(tmp_path / "cpsam"), False, False)


def test_weights_on_disk_are_used(stand_in, tmp_path):
    segmenter = cellpose_nuclei(save(tmp_path / "cpsam", "W2", "out.weight", "encoder.pos_embed", "extra"), gpu=False)
    labels = segmenter(TILE)
    assert labels.dtype == np.int32
    assert labels.sum() == 32 * 32


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: None, "the file does not exist"),
        (lambda path: path.mkdir(), "a folder, not a file"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "its 43 bytes are not weights of PyTorch"),
        (lambda path: path.write_bytes(b""), "its 0 bytes are not weights of PyTorch"),
        (lambda path: path.write_bytes(save(path, "W2", "out.weight").read_bytes()[:-200]), "are not weights of PyTorch"),
        (lambda path: torch.save([1], path), "the tensor W2 is missing"),
        (lambda path: save(path, "out.weight"), "the tensor W2 is missing"),
        (lambda path: save(path, "W2", "out.weight"), "1 tensors are missing, the first is encoder.pos_embed"),
    ],
)
def test_broken_weights_are_refused_in_one_line_without_a_download(stand_in, tmp_path, make, problem):
    make(tmp_path / "cpsam")
    with pytest.raises(UserError) as caught:
        cellpose_nuclei(tmp_path / "cpsam", gpu=False)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'cpsam'}: weights: ")
    assert problem in message
    assert "hf download mouseland/cellpose-sam" in message
    assert "CC-BY-NC" in message
    assert "segmentation.weights" in message
    assert "\n" not in message


def test_without_cellpose_the_message_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cellpose.models", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[cellpose\]' in the folder of the project"):
        cellpose_nuclei(save(tmp_path / "cpsam", "W2", "out.weight"), gpu=False)


def test_cellpose_itself_reads_small_random_weights(monkeypatch, tmp_path):
    pytest.importorskip("cellpose", reason="cellpose is not installed: pip install 'nuclass-pipeline[cellpose]'")
    from cellpose import vit
    from segment_anything.build_sam import _build_sam

    small = {"encoder_embed_dim": 16, "encoder_depth": 1, "encoder_num_heads": 2, "encoder_global_attn_indexes": [0]}
    monkeypatch.setitem(vit.sam_model_registry, "vit_l", lambda checkpoint=None: _build_sam(**small))
    torch.manual_seed(0)
    network = vit.CPSAM()
    torch.save(network.state_dict(), tmp_path / "cpsam")
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("network"))
    labels = cellpose_nuclei(tmp_path / "cpsam", gpu=False)(TILE)
    assert labels.shape == TILE.shape[:2]
    assert labels.dtype == np.int32
    partial = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("out.")}
    torch.save(partial, tmp_path / "partial")
    with pytest.raises(UserError, match=r"2 tensors are missing, the first is out\.bias"):
        cellpose_nuclei(tmp_path / "partial", gpu=False)
