"""Features of frozen networks: what is embedded, and files that cannot be read."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.train.features import embed_cells, embed_context
from tests.unit.train.toys import BREAKS, COMPUTE, FROZEN, break_file, save_models, write_features, write_slide

CELLS = 24


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    slide = write_slide(tmp_path, CELLS, 1)
    contexts = write_features(tmp_path / "context.h5", CELLS)
    return {
        **{name: slide[name] for name in ("patches", "labels", "split")},
        "contexts": contexts,
        "organ": "lung",
        **save_models(tmp_path),
    }


def embed(files: dict[str, Any], features: Path) -> None:
    embed_cells(**files, compute=COMPUTE, device="cpu", features=features)


def test_frozen_features_are_embedded_for_all_cells_but_the_training_ones(files: dict[str, Any], tmp_path: Path) -> None:
    embed(files, tmp_path / "cells.h5")
    with h5py.File(tmp_path / "cells.h5") as file:
        assert file["cell_id"].asstr()[:].tolist() == [f"cell-{number}" for number in range(CELLS) if number % 4 > 1]
        assert file["global_feature"].shape == (CELLS // 2, 64)
        np.testing.assert_allclose(file["global_p"][:].sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", ["contexts", "patches"])
def test_a_broken_file_is_named_and_nothing_is_written(files: dict[str, Any], tmp_path: Path, name: str, how: str) -> None:
    break_file(files[name], how)
    with pytest.raises(UserError, match=rf"{files[name].name}: file: not a readable HDF5 file"):
        embed(files, tmp_path / "cells.h5")
    assert not (tmp_path / "cells.h5").exists()


@pytest.mark.parametrize("how", BREAKS)
def test_broken_context_windows_are_named(tmp_path: Path, how: str) -> None:
    windows = write_slide(tmp_path, 4, 1)["contexts"]
    break_file(windows, how)
    with pytest.raises(UserError, match=rf"{windows.name}: file: not a readable HDF5 file"):
        embed_context(patches=windows, config=FROZEN, compute=COMPUTE, device="cpu", features=tmp_path / "features.h5")
