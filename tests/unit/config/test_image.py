"""The field of view: windows of whole pixels, and what the run does with them."""

import re

import pytest
from pydantic import ValidationError

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.loading.trios import check_trios
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from tests import ROOT


@pytest.mark.parametrize(
    ("mpp", "local_um", "context_um", "sides"),
    [(0.25, 56, 256, (224, 1024)), (0.5, 56, 256, (112, 512)), (0.2125, 56.1, 256.275, (264, 1206)), (0.25, 8, 8.5, (32, 34))],
)
def test_sides_are_even_numbers_of_pixels(mpp, local_um, context_um, sides):
    image = ImageConfig(mpp=mpp, local_um=local_um, context_um=context_um)
    assert (image.local_px, image.context_px) == sides


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("local_um", {"local_um": 56.25}, "56.25 µm is 225 px of 0.25 µm, not an even number of at least 32. Set it to 56"),
        ("local_um", {"local_um": 56.1}, "56.1 µm is 224.4 px of 0.25 µm, not an even number of at least 32. Set it to 56"),
        ("local_um", {"local_um": 4}, "4 µm is 16 px of 0.25 µm, not an even number of at least 32. Set it to 8"),
        ("local_um", {"mpp": 0.2125}, "56 µm is 263.5294118 px of 0.2125 µm, not an even number of at least 32. Set it to 56.1"),
        ("context_um", {"mpp": 0.2738, "local_um": 55.8552}, "256 µm is 934.9890431 px of 0.2738 µm, .*. Set it to 255.7292"),
        ("context_um", {"context_um": 56}, "56 µm is not larger than local_um (56 µm). Set it to 224, or lower local_um"),
        ("context_um", {"local_um": 300}, "256 µm is not larger than local_um (300 µm). Set it to 1200, or lower local_um"),
    ],
)
def test_other_sides_are_refused_with_a_value_that_works(key, values, message):
    with pytest.raises(ValidationError) as refusal:
        ImageConfig(**values)
    error = refusal.value.errors()[0]
    assert error["loc"] == (key,)
    assert re.search(re.escape(message).replace(r"\.\*", ".*"), error["msg"])
    value = float(re.search(r"Set it to ([\d.]+)", error["msg"])[1])
    later = {"context_um": 2000 * values.get("mpp", 0.25)} if key == "local_um" else {}
    assert getattr(ImageConfig(**values | {key: value} | later), key) == value


def test_files_are_named_by_pixels_and_a_buffer_must_follow(demo):
    demo["image"] = {"local_um": 32, "context_um": 128}
    run = load_run(demo, root=ROOT)
    assert {name: run.path_parts[name] for name in ("local_px", "context_px")} == {"local_px": "128", "context_px": "512"}
    demo["image"]["context_um"] = 512
    with pytest.raises(UserError, match=r"split.buffer_um: \d+ is less than half a context window \(256 µm\)"):
        load_run(demo, root=ROOT)


def test_the_features_of_two_frozen_encoders_coexist(demo):
    encoder = {"name": "tiny-vit", "image_px": 64, "freeze": True}
    demo["local"]["backbone"], demo["global"]["context"] = dict(encoder), dict(encoder)
    demo["local"].pop("augment", None)
    for path in ("local", "global"):
        demo[path] = {key: value for key, value in demo[path].items() if key not in ("augment", "stain_jitter", "freeze_backbone_epochs")}
    run = load_run(demo, root=ROOT)
    key = run.config.local.backbone.key
    assert run.frozen == {
        "local.backbone": f"<slides>/{{slide}}/features/tiny-vit.224.{key}.h5",
        "global.context": f"<slides>/{{slide}}/features/tiny-vit.1024.{key}.h5",
    }
    assert run.frozen_names == "tiny-vit"
    demo["global"]["context"]["image_px"] = 32
    assert load_run(demo, root=ROOT).config.global_.context.key != key


def test_views_of_crops_and_contexts_turn_together(demo):
    def load(local, context):
        for section, key, views in (("local", "backbone", local), ("global", "context", context)):
            kept = {k: v for k, v in demo[section].items() if k not in ("augment", "stain_jitter", "freeze_backbone_epochs")}
            demo[section] = kept | {key: {"name": "tiny-vit", "freeze": True, "views": views}}
        return load_run(demo, root=ROOT)

    assert len({load(*views).local_source for views in ((1, 1), (4, 4), (8, 1))}) == 3
    for local, context in ((4, 8), (8, 4)):
        problem = rf"global.context.views: is {context}, and {local} in local.backbone, .*\. Set it to {local} or 1\."
        with pytest.raises(UserError, match=problem):
            load(local, context)
    with pytest.raises(ValidationError, match=r"views are of the features of a frozen encoder\. Set freeze: true, or remove views"):
        BackboneConfig(name="tiny-vit", views=4)
    with pytest.raises(ValidationError, match=r"Input should be 1, 4 or 8"):
        BackboneConfig(name="tiny-vit", freeze=True, views=2)


@pytest.mark.parametrize(
    ("path", "name", "value", "off"),
    [
        ("local", "augment", True, "false"),
        ("local", "stain_jitter", 0.2, "0"),
        ("local", "freeze_backbone_epochs", 2, "0"),
        ("global", "augment", True, "false"),
        ("global", "freeze_backbone_epochs", 1, "0"),
    ],
)
def test_what_has_no_effect_on_features_is_refused_where_it_is_set(demo, path, name, value, off):
    for section, key in (("local", "backbone"), ("global", "context")):
        kept = {k: v for k, v in demo[section].items() if k not in ("augment", "stain_jitter", "freeze_backbone_epochs")}
        demo[section] = kept | {key: {"name": "tiny-vit", "freeze": True}}
    load_run(demo, root=ROOT)
    demo[path][name] = value
    with pytest.raises(
        UserError, match=rf"{path}.{name}: is {str(value).lower()}, and .*Set it to {off}, or local.backbone.freeze to false"
    ):
        load_run(demo, root=ROOT)
    demo[path][name] = {"false": False, "0": 0}[off]
    load_run(demo, root=ROOT)


def test_a_trio_with_windows_of_another_side_is_refused(demo, tmp_path):
    run = load_run(demo, root=ROOT)
    slide = run.slides["demo-lung-1"].model_copy(update={"kind": "trio", "bundle": str(tmp_path)})
    run.slides = {"demo-lung-1": slide}
    check_trios(run)  # Without any patches, the workflow names the missing file.
    for side_px in (128, 1024):
        (tmp_path / f"patches_{side_px}x{side_px}.h5").touch()
    problem = "its windows are 32 µm wide (128 px of 0.25 µm), and image.local_um is 56"
    message = re.escape(f"patches_128x128.h5: local_um: {problem}. Set image.local_um to 32, or cut the patches again 224 px wide.")
    with pytest.raises(UserError, match=message):
        check_trios(run)
    run.config = run.config.model_copy(update={"image": ImageConfig(local_um=32)})
    check_trios(run)
