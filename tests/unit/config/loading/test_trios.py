"""Patch datasets before the first job: which files are read, from where, and whether they are wide enough."""

import json
from pathlib import Path

import h5py
import pytest

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.loading.trios import check_trios, patch_paths
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError


@pytest.mark.parametrize(
    ("there", "read"),
    [
        ([], (224, 1024)),
        ([112], (224, 1024)),
        ([224, 1024], (224, 1024)),
        ([112, 512], (112, 512)),
        ([112, 224, 512, 1024], (224, 1024)),
        ([100, 224, 600], (100, 600)),
        ([1024, 4096], (1024, 4096)),
    ],
)
def test_the_patches_of_the_run_are_read_or_the_narrowest_and_the_widest(tmp_path, there, read):
    for side in there:
        (tmp_path / f"patches_{side}x{side}.h5").touch()
    (tmp_path / "patches_9x8.h5").touch()
    found = patch_paths(str(tmp_path), ImageConfig())
    assert found == tuple(f"{tmp_path}/patches_{side}x{side}.h5" for side in read)


def trio(own, name, folder, *, role="predict", **fields):
    """Add a slide of kind trio with an annotated cell to the study."""
    own.rows[name] = ["trio", "lung", folder, "", ""]
    own.raw["study"] = {**own.raw["study"], role: [*own.raw["study"].get(role, []), name]}
    own.write(f"{folder}/annotations.json", json.dumps({"a-1": {"class_id": "T_Cell", "note": f"{{{name}", **fields}}))
    for side in (224, 1024):
        with h5py.File(own.folder / folder / f"patches_{side}x{side}.h5", "w"):
            pass


@pytest.mark.parametrize(
    ("fields", "attribute", "problem"),
    [
        ({}, None, None),
        ({"micron_per_pixel": 0.25}, None, None),
        ({"micron_per_pixel": 0.5}, None, None),
        ({}, 0.5, None),
        ({"micron_per_pixel": "wide"}, None, None),
        ({"micron_per_pixel": 0.2125}, None, "its windows are 47.6 µm wide (224 px of 0.2125 µm), and image.local_um is 56"),
        ({"micron_per_pixel": "0.2125"}, None, "its windows are 47.6 µm wide (224 px of 0.2125 µm), and image.local_um is 56"),
        ({}, 0.125, "its windows are 28 µm wide (224 px of 0.125 µm), and image.local_um is 56"),
    ],
)
def test_windows_are_measured_by_the_pixel_size_that_the_files_state(own, fields, attribute, problem):
    trio(own, "t", "t", **fields)
    if attribute:
        with h5py.File(own.folder / "t/patches_224x224.h5", "a") as file:
            file.attrs["mpp"] = attribute
    if problem is None:
        assert own.load().slides["t"].trio_files(ImageConfig())["local"] == f"{own.folder}/t/patches_224x224.h5"
        return
    assert f"t/patches_224x224.h5: local_um: {problem}. Set image.local_um to " in own.refused()


def test_the_remedy_of_narrow_windows_works(own):
    trio(own, "t", "t", micron_per_pixel=0.2125)
    assert "Set image.local_um to 47.5, or cut the patches again 264 px wide." in own.refused()
    own.raw["image"] = {"local_um": 47.5}
    assert "Set image.context_um to 217.5, or cut the patches again 1205 px wide." in own.refused()
    own.raw["image"] = {"local_um": 47.5, "context_um": 217.5}
    assert own.load()


def test_a_folder_of_splits_names_its_folders(own):
    trio(own, "t", "root/train")
    trio(own, "u", "root/test")
    own.rows["t"][2] = "root"
    remedy = f"Write one row with the bundle {own.folder}/root/train, and one with the bundle {own.folder}/root/test."
    assert f"slides.tsv: t, bundle: {own.folder}/root holds no annotations.json; a folder in it does. {remedy}" in own.refused()
    own.rows["t"][2] = "root/train"
    assert own.load()
    own.rows["t"][2] = "nowhere"
    assert "t, bundle: " in (message := own.refused()) and "nowhere/annotations.json does not exist" in message


def test_one_slide_is_not_trained_on_and_held_out(own):
    trio(own, "t", "root/train", role="train", slide_id="colon-1")
    trio(own, "u", "root/test", role="heldout", slide_id="colon-1")
    assert (
        "t and u, bundle: both bundles hold cells of slide colon-1, and one is trained on while the other is held out. "
        "List both under study.train: cells beside trained ones make scores too high." in own.refused()
    )
    own.raw["study"] = {"train": ["a", "t", "u"], "heldout": ["b"]}
    assert own.load()
    own.raw["study"] = {"train": ["a", "t"], "heldout": ["b", "u"]}
    own.write("root/test/annotations.json", json.dumps({"a-1": {"slide_id": "colon-2"}}))
    assert own.load()


def test_relative_bundles_start_from_the_sheet_outside_the_project_and_from_the_project_inside(own, tmp_path_factory, monkeypatch):
    trio(own, "t", "sets/t")
    trio(own, "u", "sets/u")
    assert own.load().slides["t"].bundle == f"{own.folder}/sets/t"
    study = tmp_path_factory.mktemp("study")
    (own.folder / "sets").rename(study / "sets")
    (study / "linked").symlink_to(study / "sets")
    rows = f"slide\tkind\torgan\tbundle\nt\ttrio\tlung\tlinked/t\nu\ttrio\tlung\t../{study.name}/sets/u\n"
    (study / "slides.tsv").write_text(rows)
    own.raw |= {"slides": str(study / "slides.tsv"), "study": {"train": ["t"], "heldout": ["u"]}}
    for working in (own.folder, study, tmp_path_factory.mktemp("elsewhere")):
        monkeypatch.chdir(working)
        run = load_run(own.raw, root=own.folder)
        for name in ("t", "u"):
            paths = run.slides[name].trio_files(run.config.image).values()
            assert all(Path(path).is_file() for path in paths), paths


def test_broken_patches_are_left_to_their_job(own):
    trio(own, "t", "t")
    own.write("t/patches_224x224.h5", "no HDF5")
    run = own.load()
    check_trios(run)
    with h5py.File(own.folder / "t/patches_1024x1024.h5", "a") as file:
        file.attrs["mpp"] = [0.25, 0.5]
    check_trios(run)
    with h5py.File(own.folder / "t/patches_1024x1024.h5", "a") as file:
        file.attrs["mpp"] = 0.05
    with pytest.raises(UserError, match=r"patches_1024x1024.h5: context_um: its windows are 51.2 µm wide"):
        check_trios(run)
