"""Maps follow the equation of Grad-CAM, are masked on glass and lumens, and drawn for validation and held-out cells by a fixed rule."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.evaluation import AttributionConfig
from nuclass_pipeline.config.models import GlobalConfig, LocalConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.attribution import choose_cells, explain_cells, find_stained, grad_cam, mask_heat
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.checkpoint import CheckpointMetadata, save_checkpoint
from nuclass_pipeline.models.global_ import GlobalClassifier
from nuclass_pipeline.models.local import LocalClassifier
from nuclass_pipeline.schemas import ATTRIBUTION, PREDICTIONS
from tests.unit.train.toys import BREAKS, break_file

CLASSES = ("Acinar", "T_Cell")
N = 12


def test_grad_cam_equation() -> None:
    grid = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]]]], requires_grad=True)
    score = (grid[:, 0].sum() * 2 - grid[:, 1].sum() * 4) / 4
    # Mean gradients are 0.5 and −1, so the map is ReLU(0.5·A₀ − A₁) = [[0, 1], [1.5, 1]].
    np.testing.assert_allclose(grad_cam(score, grid), [[0, 1 / 1.5], [1, 1 / 1.5]], atol=1e-6)


def test_a_map_without_evidence_is_empty() -> None:
    grid = torch.ones(1, 2, 3, 3, requires_grad=True)
    assert (grad_cam(-grid.sum(), grid) == 0).all()


def _planted(*groups: tuple[str, str, int]) -> pd.DataFrame:
    """Return cells of groups (label, class that the gate predicts, number); the probabilities of a group rise evenly."""
    rows = [(label, predicted, (i + 1) / (n + 1)) for label, predicted, n in groups for i in range(n)]
    return pd.DataFrame(rows, columns=["label", "gate_predicted", "gate_probability"])


CELLS = _planted(
    ("Acinar", "Acinar", 41),
    ("T_Cell", "T_Cell", 31),
    ("B_Cell", "B_Cell", 21),
    ("Ductal", "Ductal", 11),
    ("Acinar", "Ductal", 1),
    ("T_Cell", "B_Cell", 5),
    ("Ductal", "Acinar", 9),
    ("Monocyte", "T_Cell", 7),
    ("Unresolved", "Acinar", 500),
)


def test_half_of_the_cells_are_errors_of_the_classes_with_most_and_the_others_are_of_the_commonest_classes() -> None:
    chosen = CELLS.iloc[choose_cells(CELLS, 6)]
    assert chosen["label"].tolist() == ["Acinar", "T_Cell", "B_Cell", "Ductal", "Monocyte", "T_Cell"]
    assert (chosen["label"] == chosen["gate_predicted"]).tolist() == [True] * 3 + [False] * 3
    # Of every group the median is shown, and the probability of the median of all groups is a half.
    assert chosen["gate_probability"].tolist() == pytest.approx([0.5] * 6)
    assert choose_cells(CELLS, 6) == choose_cells(CELLS, 6)


def test_one_cell_is_an_error_and_without_errors_all_are_right() -> None:
    assert CELLS.iloc[choose_cells(CELLS, 1)]["label"].tolist() == ["Ductal"]
    right = CELLS[CELLS["label"] == CELLS["gate_predicted"]]
    assert right.iloc[choose_cells(right, 6)]["label"].tolist() == ["Acinar", "T_Cell", "B_Cell", "Ductal", "Acinar", "T_Cell"]
    wrong = CELLS[CELLS["label"] != CELLS["gate_predicted"]]
    assert wrong.iloc[choose_cells(wrong, 5)]["label"].tolist() == ["Ductal", "Monocyte", "T_Cell", "Acinar", "Ductal"]


def test_the_choice_is_the_same_for_labels_as_categories() -> None:
    for cells in (CELLS, CELLS[CELLS["label"] == CELLS["gate_predicted"]]):
        assert choose_cells(cells.astype({"label": "category"}), 20) == choose_cells(cells, 20)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 20, 125, 126, 1000])
def test_no_cell_is_chosen_twice_nor_without_label(count: int) -> None:
    chosen = choose_cells(CELLS, count)
    assert len(set(chosen)) == len(chosen) == min(count, 126)
    assert not (CELLS.iloc[chosen]["label"] == "Unresolved").any()


@pytest.mark.parametrize("glass", [255, 244, 230, 210, (240, 240, 230)])
def test_glass_is_no_tissue_and_tissue_is(glass: Any) -> None:
    pixels = np.full((64, 64, 3), (235, 215, 228), np.uint8)
    pixels[:, :20] = glass
    # Padding at the edge of the image, which is whiter than glass.
    pixels[:, :8] = 255
    pixels[40:50, 40:50] = (110, 80, 150)
    noisy = np.clip(pixels + np.random.default_rng(0).integers(-4, 5, pixels.shape), 0, 255).astype(np.uint8)
    for image, least in ((pixels, 1.0), (noisy, 0.995)):
        tissue = find_stained(image)
        assert (~tissue[:, :20]).mean() >= least
        # Smoothed, so the edge of the tissue may be lost.
        assert tissue[:, 24:].mean() >= least


def test_a_lumen_within_tissue_is_masked_as_glass_is() -> None:
    pixels = np.full((64, 64, 3), (200, 120, 170), np.uint8)
    rows, columns = np.mgrid[:64, :64]
    distance_px = np.hypot(rows - 32, columns - 32)
    pixels[distance_px < 12] = 244
    tissue = find_stained(pixels)
    assert not tissue[distance_px < 11].any()
    assert tissue[distance_px > 13].all()


@pytest.mark.parametrize(
    ("color", "is_tissue"),
    [
        ((240, 228, 240), False),
        ((240, 224, 240), True),
        ((252, 240, 244), False),
        ((252, 236, 244), True),
        ((202, 202, 202), False),
        ((198, 198, 198), True),
    ],
)
def test_the_limits_of_glass_are_a_tint_of_15_and_a_grey_of_200(color: tuple[int, int, int], is_tissue: bool) -> None:
    # A tint of 12 is glass and one of 16 is tissue, so that very pale eosin, paler than this, is masked.
    assert (find_stained(np.full((32, 32, 3), color, np.uint8)) == is_tissue).all()


def test_a_map_is_multiplied_with_the_share_of_tissue_and_scaled_to_one() -> None:
    tissue = np.ones((8, 8), bool)
    tissue[:, :4] = False
    tissue[:4, 4:6] = False
    heat, share = mask_heat(np.array([[1.0, 0.6], [0.9, 0.4]]), tissue)
    np.testing.assert_allclose(heat, [[0, 0.75], [0, 1]])
    # Of 2.9, half of 0.6 and all of 0.4 are left.
    assert share == pytest.approx(2.2 / 2.9)
    heat, share = mask_heat(np.ones((2, 2)), np.zeros((8, 8), bool))
    assert (heat == 0).all()
    assert share == 1
    # Sides that the fields do not divide evenly, and more fields than pixels in none of them.
    heat, share = mask_heat(np.ones((7, 7)), np.ones((112, 65), bool))
    assert heat.tolist() == [[1.0] * 7] * 7
    assert share == 0


def test_a_map_without_heat_has_no_masked_share() -> None:
    assert np.isnan(mask_heat(np.zeros((2, 2)), np.ones((8, 8), bool))[1])


def write_patches(path: Path, side: int) -> Path:
    with h5py.File(path, "w") as file:
        images = np.random.default_rng(side).integers(0, 220, size=(N, side, side, 3), dtype=np.uint8)
        # Glass at the left, a little wider than a quarter.
        images[:, :, : side * 9 // 32] = 244
        file["images"] = images
        file.create_dataset("keys", data=[f"c{n}" for n in range(N)], dtype=h5py.string_dtype())
        file.attrs["mpp"] = 0.5
    return path


def write_gate(path: Path, predicted: list[str]) -> None:
    """Write the gate's predictions of all cells; every probability is 0.75."""
    names = {"cell_id": [f"c{n}" for n in range(N)], "label": ["Acinar", "T_Cell", "Unresolved"] * 4, "subset": "val", "block": "0"}
    places = {"x_um": 0.0, "y_um": 0.0, "padded": False, "predicted": predicted, "gate_weight": 0.5}
    write_table(pd.DataFrame(names | places | {"p_Acinar": 0.75, "p_T_Cell": 0.25}), path, PREDICTIONS)


@pytest.fixture(params=["tiny-resnet", "tiny-vit"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    encoder = BackboneConfig(name=request.param, image_px=64)
    local_config, global_config = LocalConfig(backbone=encoder, organ_dim=4), GlobalConfig(context=encoder, projection=8)
    local = LocalClassifier(build_backbone(encoder), classes=2, organs=1, config=local_config)
    context = build_backbone(encoder)
    wide = GlobalClassifier(local, context, context.dim, classes=2, config=global_config)
    meta = CheckpointMetadata(
        kind="local",
        classes=CLASSES,
        organs=("lung",),
        mpp=0.5,
        local_um=32,
        context_um=64,
        local=local_config,
        backbone=local.backbone.spec,
        dims={"local": local.backbone.dim, "context": context.dim, "global": 16},
        seed=0,
    )
    save_checkpoint(tmp_path / "local.ckpt", local, meta)
    save_checkpoint(
        tmp_path / "global.ckpt", wide, meta.model_copy(update={"kind": "global", "global_": global_config, "context": context.spec})
    )
    pd.DataFrame({"cell_id": [f"c{n}" for n in range(N)], "label": ["Acinar", "T_Cell", "Unresolved"] * 4, "confidence": 1.0}).to_parquet(
        tmp_path / "labels.parquet"
    )
    subsets = ["val", "train", "val", "val"] * 3
    pd.DataFrame({"cell_id": [f"c{n}" for n in range(N)], "subset": subsets, "block": "0"}).to_parquet(tmp_path / "split.parquet")
    write_gate(tmp_path / "gate.parquet", ["Acinar", "Acinar", "Acinar"] * 4)
    return {
        "patches": write_patches(tmp_path / "narrow.h5", 64),
        "contexts": write_patches(tmp_path / "wide.h5", 128),
        "labels": tmp_path / "labels.parquet",
        "split": tmp_path / "split.parquet",
        "local": tmp_path / "local.ckpt",
        "global_": tmp_path / "global.ckpt",
        "attribution": tmp_path / "attribution.parquet",
        "organ": "lung",
        "slide": "s",
        "gate": tmp_path / "gate.parquet",
        "device": "cpu",
    }


def test_a_global_path_without_context_has_an_empty_map(files: dict[str, Any]) -> None:
    content = torch.load(files["global_"], weights_only=True)
    content["meta"]["global_"]["use_context"] = False
    torch.save(content, files["global_"])
    explain_cells(**files, config=AttributionConfig(cells=3))
    heat = read_table(files["attribution"], ATTRIBUTION).set_index("model")["heat"].map(max)
    assert not heat["global"].any()
    assert heat["local"].any()


def test_both_paths_are_explained(files: dict[str, Any]) -> None:
    explain_cells(**files, config=AttributionConfig(cells=3))
    table = read_table(files["attribution"], ATTRIBUTION)
    assert len(table) == 6
    assert table["cell_id"].nunique() == 3
    assert set(table["label"]) == set(CLASSES)
    train = {f"c{n}" for n in (1, 5, 9)}
    assert not train & set(table["cell_id"])
    assert table.groupby("model")["field_um"].unique().map(list).to_dict() == {"local": [32.0], "global": [64.0]}
    for row in table.itertuples():
        heat = np.array(row.heat)
        side = round(len(heat) ** 0.5)
        assert side == 4  # a sixteenth of 64 px
        assert side**2 == len(heat)
        assert heat.min() == 0
        assert heat.max() in (0, pytest.approx(1))
        assert Image.open(io.BytesIO(row.image)).size == (64, 64)
        tissue = np.asarray(Image.open(io.BytesIO(row.tissue)))
        assert tissue.shape == (64, 64)
        assert not tissue[:, :16].any()
        assert tissue[:, 20:].mean() > 0.8
        assert (heat.reshape(4, 4)[:, 0] == 0).all(), "glass is masked"
        assert 0 <= row.masked_share <= 1 or not heat.any()
        assert 0.5 <= row.probability <= 1
    # The gate predicts Acinar for all, so that the T cells are its errors: two of three cells.
    assert table["label"][::2].tolist() == ["Acinar", "T_Cell", "T_Cell"]
    assert set(table["gate_predicted"]) == {"Acinar"}
    assert set(table["gate_probability"]) == {0.75}
    assert (table["heat"].map(max) > 0).any()


@pytest.mark.parametrize("files", ["tiny-resnet"], indirect=True)
def test_a_cell_that_the_gate_has_not_seen_is_an_error(files: dict[str, Any]) -> None:
    table = pd.read_parquet(files["gate"])
    table[table["cell_id"] != "c6"].to_parquet(files["gate"])
    with pytest.raises(UserError, match=r"gate\.parquet: cell_id: 'c6' has no prediction\. Remove the file and run again\."):
        explain_cells(**files, config=AttributionConfig(cells=3))


def test_features_cannot_be_explained(files: dict[str, Any]) -> None:
    with h5py.File(files["contexts"], "a") as file:
        file["feature"] = np.zeros((N, 4), np.float16)
        file.move("keys", "cell_id")
        del file["images"]
    with pytest.raises(UserError, match="images: the dataset is missing"):
        explain_cells(**files, config=AttributionConfig(cells=3))


@pytest.mark.parametrize("files", ["tiny-resnet"], indirect=True)
@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", ["patches", "contexts"])
def test_a_broken_patch_file_is_named(files: dict[str, Any], name: str, how: str) -> None:
    break_file(files[name], how)
    with pytest.raises(UserError, match=rf"{files[name].name}: file: not a readable HDF5 file"):
        explain_cells(**files, config=AttributionConfig(cells=3))
    assert not files["attribution"].exists()
