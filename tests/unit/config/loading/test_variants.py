"""Variants of a run file: what they may change, who owns which files, and mistakes in one line."""

import copy
import os
from pathlib import Path

import pytest
import yaml

from nuclass_pipeline.config.loading.variants import FAMILIES, merge, read_configs
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from tests import ROOT


def load(demo, variants, **changes):
    return load_run({**demo, **changes, "variants": variants}, root=ROOT, file="config/demo.yaml")


@pytest.mark.parametrize(
    ("change", "own"),
    [
        ({"gate": {"hidden": [8, 8]}}, {"gate"}),
        ({"gate": {"kind": "neighbors", "optim": None, "balance_cells": None}}, {"gate"}),
        ({"global": {"use_context": False}}, {"global", "gate"}),
        ({"global": {"fused_weight": 0, "global_weight": 1}}, {"global", "gate"}),
        ({"image": {"context_um": 128}}, {"global", "gate"}),
        ({"image": {"local_um": 32}}, {"local", "global", "gate"}),
        ({"local": {"conditioning": "concat"}}, {"local", "global", "gate"}),
        ({"local": {"backbone": {"name": "tiny-vit"}}}, {"local", "global", "gate"}),
        ({"split": {"buffer_um": 0}}, {"split", "local", "global", "gate"}),
        ({"labeling": {"min_confidence": 0.9}}, {"labels", "split", "local", "global", "gate"}),
    ],
)
def test_a_variant_owns_what_its_changes_reach(demo, change, own):
    run = load(demo, {"other": change})
    assert {family for family in FAMILIES if run.owner(family, "other") == "other"} == own
    assert {run.owner(family, "base") for family in FAMILIES} == {"base"}


def test_a_buffer_of_a_whole_window_follows_the_window(demo):
    run = load(demo, {"wide": {"image": {"context_um": 512}}}, split={})
    assert [run.owner(family, "wide") for family in FAMILIES] == ["base", "wide", "wide", "wide", "wide"]
    assert (run.config.buffer_um, run.variants["wide"].config.buffer_um, run.variant_warnings) == (256, 512, [])
    assert run.variants["wide"].section("image")["context_um"] == 512


def test_a_variant_shares_with_the_first_that_is_equal(demo):
    concat = {"conditioning": "concat"}
    run = load(demo, {"a": {"local": concat}, "b": {"local": concat, "gate": {"hidden": [8, 8]}}, "c": {"gate": {"hidden": [8, 8]}}})
    assert [run.owner(family, "b") for family in FAMILIES] == ["base", "base", "a", "a", "b"]
    assert [run.owner(family, "c") for family in FAMILIES] == ["base", "base", "base", "base", "c"]
    assert run.checkpoint("global", "b") == "<results>/models/a/global/seed-{seed}/best.ckpt"
    assert run.cell_features("b") == "<results>/slides/{slide}/features/cells.a.seed-{seed}.h5"
    assert run.variants["b"].section("local")["conditioning"] == "concat"
    assert run.section("local")["conditioning"] == "film"


def test_labels_and_splits_of_variants_lie_apart_and_those_of_other_slides_stay(demo):
    run = load(demo, {"strict": {"labeling": {"min_confidence": 0.9}}, "close": {"split": {"buffer_um": 0}}})
    own = "<results>/variants/strict/slides/demo-lung-1"
    assert (run.labels_of("demo-lung-1", "strict"), run.split_of("demo-lung-1", "strict")) == (
        f"{own}/labels.parquet",
        f"{own}/split.parquet",
    )
    assert run.labels_of("demo-lung-1", "close") == run.labels_of("demo-lung-1", "base") == "<slides>/demo-lung-1/labels.parquet"
    assert run.split_of("demo-lung-1", "base") == "<slides>/demo-lung-1/split.parquet"
    assert run.labels_of("demo-lung-he", "strict") == "<slides>/demo-lung-he/labels.parquet"


def test_windows_of_variants_are_those_of_their_sides(demo):
    run = load(demo, {"crop": {"image": {"local_um": 32}}, "wide": {"image": {"local_um": 32, "context_um": 512}}})
    assert run.further_sides == "128|2048"
    assert run.variants["wide"].local_source == "<slides>/{slide}/patches_128x128.h5"
    assert run.variants["wide"].context_source == "<slides>/{slide}/patches_2048x2048.h5"
    assert load(demo, {}).further_sides == "(?!)"


def test_the_frozen_encoders_of_all_variants_are_embedded(demo):
    frozen = {"name": "tiny-vit", "image_px": 64, "freeze": True}
    run = load(demo, {"vit": {"global": {"context": frozen, "standardize": True}}})
    assert run.frozen_names == "tiny-vit"
    path = run.variants["vit"].context_source
    assert run.frozen_files == [path.format(slide=slide) for slide in run.cohort_slides]
    key = path.split(".")[-2]
    wildcards = type("Wildcards", (), {"encoder": "tiny-vit", "px": "1024", "key": key})
    assert run.frozen_run(wildcards) is run.variants["vit"]
    assert [row["use"] for row in run.encoders] == ["local.backbone", "global.context", "variants.vit.global.context"]


def test_changes_are_merged_key_by_key_and_nothing_restores_the_default():
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2, 3], "e": 4}) == {"a": {"b": 3, "c": 2}, "d": [2, 3], "e": 4}
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}) == {"a": {"c": 2}}


def test_the_recorded_run_file_has_the_same_variants(demo):
    run = load(
        demo,
        {"knn": {"gate": {"kind": "neighbors", "optim": None, "balance_cells": None}}, "concat": {"local": {"conditioning": "concat"}}},
    )
    recorded = yaml.safe_load(yaml.safe_dump(run.checked))
    assert read_configs(recorded) == {name: variant.config.model_copy(update={"variants": {}}) for name, variant in run.variants.items()}


def test_a_small_buffer_of_a_variant_is_a_warning(demo):
    assert load(demo, {}).variant_warnings == []
    (warning,) = load(demo, {"close": {"split": {"buffer_um": 0}}}).variant_warnings
    assert warning.startswith("close: split.buffer_um is 0 µm, less than a context window (256 µm)")
    (warning,) = load(demo, {"wide": {"image": {"context_um": 512}}}).variant_warnings
    assert warning.startswith("wide: split.buffer_um is 128 µm, less than a context window (512 µm)")


TWICE = {"a": {"gate": {"hidden": [8, 8]}}, "b": {"gate": {"hidden": [8, 8]}}}


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"Base": {}}, "variants.Base: 'Base': not a name. Use lower-case letters, digits and hyphens"),
        ({"a/b": {}}, "variants.a/b: 'a/b': not a name."),
        ({"base": {"gate": {"hidden": [8, 8]}}}, "variants.base: base is the run file without changes. Use another name."),
        ({"demo-lung-1": {"gate": {"hidden": [8, 8]}}}, "variants.demo-lung-1: demo-lung-1 is a slide. Use another name."),
        ({"x": {"local": {"conditioning": "none", "organ_dropout": 0.1}}}, "variants.x.local: organ_dropout hides the organ, which"),
        ({"x": {}}, "variants.x: its models are those of the run file without changes. Change another key, or remove it."),
        ({"x": {"local": {"organ_dim": 64}}}, "variants.x: its models are those of the run file without changes."),
        (TWICE, "variants.b: its models are those of variant a. Change another key, or remove it."),
        ({"x": {"locl": {"a": 1}}}, "variants.x.locl: unknown section, did you mean 'local'? Change image, labeling, split, local"),
        ({"x": {"study": {"train": ["a"]}}}, "variants.x.study: a variant cannot change it. Change image, labeling"),
        ({"x": {"run": {}}}, "variants.x.run: a variant cannot change it."),
        (
            {"x": {"image": {"mpp": 0.5}}},
            "variants.x.image.mpp: a variant cannot change it. Change local_um, context_um, or make another run.",
        ),
        ({"x": {"labeling": {"markers": "m.tsv"}}}, "variants.x.labeling.markers: a variant cannot change it."),
        ({"x": {"local": {"conditionin": "none"}}}, "variants.x.local.conditionin: unknown key, did you mean 'conditioning'?"),
        ({"x": {"local": {"conditioning": "nope"}}}, "variants.x.local.conditioning: 'nope': unknown"),
        ({"x": {"image": {"local_um": 57.1}}}, "variants.x.image.local_um: 57.1"),
        ({"x": {"local": 3}}, "variants.x.local: 3: not a section of keys."),
        ({"x": None}, "variants.x: the value is empty."),
        (
            {"x": {"local": {"backbone": {"freeze": True}}}},
            "variants.x.local.stain_jitter: is 0.2, and the features of the frozen encoder are computed before the training",
        ),
    ],
)
def test_mistakes_are_one_line(demo, variants, message):
    with pytest.raises(UserError) as caught:
        load(demo, variants)
    assert str(caught.value).startswith(f"config/demo.yaml: {message}")
    assert "\n" not in str(caught.value)


def test_a_variant_needs_models_and_slides_that_it_can_change(demo, own):
    labelled = copy.deepcopy(demo) | {"study": {"label": ["demo-lung-1"]}, "figures": {}, "tables": {}}
    with pytest.raises(UserError, match=r"variants\.x: the study trains no model"):
        load(labelled, {"x": {"gate": {"hidden": [8, 8]}}})
    for name in "ab":
        own.rows[name] = ["trio", "lung", f"trio-{name}", "", ""]
        for file in ("annotations.json", "patches_224x224.h5", "patches_1024x1024.h5"):
            own.write(f"trio-{name}/{file}", name)
    own.raw["variants"] = {"x": {"image": {"local_um": 32}}}
    assert "variants.x.image: the windows of a were cut elsewhere. Remove it, or make another run." in own.refused()
    own.raw["variants"] = {"x": {"global": {"context": {"name": "tiny-resnet", "freeze": True, "tile_um": 128}}}}
    assert "variants.x.global.context.tile_um: the windows of a are pixels, and tiles are cut from an image. Remove it" in own.refused()
    own.raw["variants"] = {"x": {"labeling": {"min_confidence": 0.5}}}
    assert "variants.x.labeling: no slide of study.train or study.heldout is labelled from its transcripts. Remove it." in own.refused()


def test_tiles_that_reach_over_the_buffer_are_noted(demo):
    tiled = {"global": {"context": {"freeze": True, "tile_um": 64}}}
    (note,) = [note for note in load(demo, {"x": tiled}).notes if "tile" in note]
    assert note.startswith("config/demo.yaml: variants.x.global.context.tile_um: a tile shows up to 384 µm of tissue around its cells")
    assert "and the buffer is 128 µm" in note
    assert not [note for note in load(demo, {"x": tiled | {"split": {"buffer_um": 384}}}).notes if "tile" in note]
    assert not [note for note in load(demo, {}).notes if "tile" in note]


def mine(weights):
    return {"context": {"name": "mine", "architecture": "vit_tiny_patch16_224", "weights": weights, "image_px": 512, "freeze": True}}


def test_one_frozen_encoder_with_two_weights_has_two_files(demo, tmp_path):
    one, two, same = (str(tmp_path / name) for name in ("one.pth", "two.pth", "same.pth"))
    for path, content in ((one, b"one"), (two, b"two"), (same, b"one")):
        Path(path).write_bytes(content)
    run = load(demo, {name: {"global": mine(path)} for name, path in (("a", one), ("b", two), ("c", same))})
    sources = {name: run.variants[name].context_source for name in "abc"}
    assert sources["a"] == sources["c"] != sources["b"]
    assert len(run.frozen_files) == 2 * len(run.cohort_slides)
    for name, path in (("a", one), ("b", two)):
        wildcards = type("Wildcards", (), {"encoder": "mine", "px": "1024", "key": sources[name].split(".")[-2]})
        found = run.frozen_run(wildcards)
        assert found is run.variants[name]
        assert found.encoder_weights(found.frozen_field(wildcards)) == [path]


def test_weights_with_other_content_have_another_file(demo, tmp_path):
    """Also if their size is the same, and they are older than the features."""
    path, found = tmp_path / "w.pth", []
    for number, content in enumerate((b"one", b"two", b"one")):
        path.write_bytes(content)
        os.utime(path, (1000 + number, 1000 + number))
        found.append(load(demo, {"a": {"global": mine(str(path))}}).variants["a"].context_source)
    assert found[0] == found[2] != found[1]
    path.unlink()
    run = load(demo, {"a": {"global": mine(str(path))}}).variants["a"]
    assert run.context_source not in found
    with pytest.raises(UserError, match=r"variants.a.global.context.weights: .*w.pth: the folder holds neither"):
        run.encoder_weights("global.context")


def test_the_record_of_a_variant_names_the_weights_that_jobs_read(demo, tmp_path):
    run_file = tmp_path / "mine.yaml"
    (tmp_path / "w").mkdir()
    (tmp_path / "w/one").touch()
    run_file.touch()
    raw = {**demo, "variants": {"a": {"global": mine("w/one"), "gate": {"balance_cells": None}}}}
    recorded = load_run(raw, root=ROOT, file=str(run_file), sources={str(run_file): raw}).checked["variants"]["a"]
    assert recorded["global"]["context"]["weights"] == str(tmp_path / "w/one")
    assert recorded["gate"] == {"balance_cells": None}


def test_results_of_a_version_without_variants_are_not_trained_again(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/demo/models/local/seed-0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"run: results/demo was made by a version whose models lie elsewhere"):
        load_run(demo, root=ROOT, file="config/demo.yaml")
    (tmp_path / "results/demo/models/base").mkdir()
    assert load_run(demo, root=ROOT, file="config/demo.yaml")


def test_files_of_variants_alone_are_listed_for_their_warnings(demo):
    close, mlp = {"split": {"buffer_um": 0}}, {"gate": {"hidden": [8, 8]}}
    run = load(demo, {"strict": {"labeling": {"min_confidence": 0.9}}, "close": close, "mlp": mlp})
    slides = run.cohort_slides
    assert run.further_labels == [f"<results>/variants/strict/slides/{slide}/labels.parquet" for slide in slides]
    assert run.further_splits == [
        f"<results>/variants/{name}/slides/{slide}/split.parquet" for name in ("strict", "close") for slide in slides
    ]
    assert (load(demo, {}).further_labels, load(demo, {}).further_splits) == ([], [])


def test_an_organ_of_the_study_must_be_known_to_every_variant(demo):
    study = {"train": ["demo-lung-1"], "heldout": ["demo-lung-2", "demo-pancreas-2"], "unknown_organ": "neutral"}
    raw = copy.deepcopy(demo) | {"study": study}
    raw["local"]["organ_dropout"] = 0.1
    assert load(raw, {"none": {"local": {"conditioning": "none", "organ_dropout": 0}}})
    with pytest.raises(UserError, match=r"variants\.sure\.local\.organ_dropout: is 0, and slide demo-pancreas-2 is of pancreas"):
        load(raw, {"sure": {"local": {"organ_dropout": 0}}})
