"""What jobs request, by the run file."""

from types import SimpleNamespace

import pytest

from nuclass_pipeline.config.memory.formulas import MIN_MB, PEAKS, REQUESTED_SHARE, STEP_MB, Peak, request_mb
from nuclass_pipeline.config.memory.jobs import LANGUAGE_MODEL_MB
from nuclass_pipeline.config.memory.sizes import SlideSize
from nuclass_pipeline.config.run import load_run
from tests import ROOT
from tests.unit.config.conftest import edited

JOB = SimpleNamespace(slide="demo-lung-1", variant="base", seed="0")


def peak(raw, rule, job=JOB):
    return load_run(raw, root=ROOT).peak_mb(rule, job)


def test_a_peak_is_linear_in_the_slides_and_takes_the_largest_image():
    sizes = [SlideSize(1000, 50_000, 4.0, "sheet"), SlideSize(3000, 10_000, 1.0, "sheet")]
    assert Peak(200, cell_bytes=500, count_bytes=100).mb(sizes) == pytest.approx(200 + 2 + 6)
    assert Peak(200, cell_bytes=500, count_bytes=100, one_by_one=True).mb(sizes) == pytest.approx(200 + 5.5)
    assert Peak(200, side_bytes=1000, area_mb=10).mb(sizes) == pytest.approx(200 + 8 + 40)


@pytest.mark.parametrize(("peak_mb", "expected"), [(10, MIN_MB), (1000, 1300), (1001, 1400)])
def test_a_job_requests_its_peak_and_a_margin_in_steps_and_more_with_each_attempt(peak_mb, expected):
    assert (REQUESTED_SHARE, STEP_MB) == (1.3, 100)
    assert [request_mb(peak_mb, attempt) for attempt in (1, 2, 3)] == [expected, 2 * expected, 3 * expected]


@pytest.mark.parametrize("rule", ["train_local", "train_global"])
def test_the_cache_of_a_training_is_part_of_its_memory_as_far_as_patches_fill_it(demo, rule):
    large = edited(demo, "synthetic.cells", 1_000_000)
    peaks = [peak(edited(large, "compute.cache_gb", gb), rule) for gb in (0, 8, 32)]
    assert [after - peaks[0] for after in peaks[1:]] == pytest.approx([8000, 32_000])
    few = [peak(edited(demo, "compute.cache_gb", gb), rule) for gb in (8, 32)]
    assert few[0] == few[1]


def test_loader_processes_of_training_and_validation_are_counted_and_share_the_cache(demo):
    of_workers = [peak(edited(demo, "compute.workers", workers), "train_local") for workers in (1, 2, 3)]
    each = of_workers[1] - of_workers[0]
    assert of_workers[2] - of_workers[1] == pytest.approx(each)
    # 64 MB of blocks, 100 MB, four batches of 32 crops; twice, since training and validation have their own.
    assert each == pytest.approx(2 * (64 + 100 + 4 * 32 * 3 * 112**2 / 1e6))


def test_weights_are_counted_once_they_are_named_and_a_gpu_takes_activations_off_the_machine(demo):
    tiny = peak(demo, "train_local")
    demo["local"]["backbone"] = {"name": "dinov3-vits16", "image_px": 112}
    assert peak(demo, "train_local") - tiny == pytest.approx(8 * 86)
    demo["compute"]["gpu"] = 1
    assert peak(demo, "train_local") - tiny == pytest.approx(3 * 86 + 3000 - 32 * 112**2 / 1000)


def test_each_device_of_a_training_takes_its_own_memory_and_all_share_the_cells(demo):
    one, two = (load_run(edited(demo, "compute.devices", devices), root=ROOT) for devices in (1, 2))
    peaks = [run.peak_mb("train_local", JOB) for run in (one, two)]
    cells = 0.82 * 5000 * (3 * 112**2 + 80) / 1e6
    of_batch = 32 * 112**2 * (1000 + 4 * 3) / 1e6
    assert peaks[1] - cells == pytest.approx(750 + 2 * (peaks[0] - cells) - of_batch)
    assert one.peak_mb("embed_cells", JOB) == two.peak_mb("embed_cells", JOB)
    assert (one.training_gpus, load_run(edited(edited(demo, "compute.gpu", 1), "compute.devices", 4), root=ROOT).training_gpus) == (0, 4)


def test_features_of_a_frozen_encoder_replace_its_windows(demo):
    frozen = edited(demo, "global.context.freeze", True)
    grown = [peak(edited(raw, "synthetic.cells", 102_500), "train_global") - peak(raw, "train_global") for raw in (demo, frozen)]
    cells = 0.82 * 2 * 100_000
    assert grown[1] == pytest.approx(cells * (2 * 192 + 80) / 1e6 + 2000 - 0.82 * 5000 * 3 * 112**2 / 1e6)
    assert grown[0] == pytest.approx(cells * 80 / 1e6 + 2000 - 0.82 * 5000 * 3 * (112**2 + 64**2) / 1e6)


def test_each_slide_has_its_own_request(demo):
    run = load_run(edited(demo, "synthetic.cells", 500_000), root=ROOT)
    request = run.mem_mb("cluster_cells")
    assert request(JOB, 1) == request_mb(PEAKS["cluster_cells"].mb([run.size("demo-lung-1")]), 1) > 6000
    assert request(JOB, 2) == 2 * request(JOB, 1)


def test_a_gate_on_a_gpu_takes_what_cuda_takes(demo):
    for rule in ("train_gate", "predict_slide"):
        assert peak(edited(demo, "compute.gate_gpu", 1), rule) - peak(demo, rule) == pytest.approx(3000)


def test_an_encoder_of_tiles_reads_two_larger_images_at_once(demo):
    demo["global"]["context"] |= {"freeze": True}
    run = load_run(edited(demo, "global.context.tile_um", 256.0), root=ROOT)
    context = run.config.global_.context
    job = SimpleNamespace(slide="demo-lung-1", encoder=context.name, px="1024", key=context.key)
    # 64 px for a window of 256 µm, and as many for the tile.
    assert run.peak_mb("embed_windows", job) == pytest.approx(750 + 64 + 650 * 2 * 128**2 / 1e6 + 4 * 2 * 3 * 128**2 / 1e6)


def test_windows_that_a_gpu_resizes_are_held_as_they_are_read(demo):
    demo["global"]["context"] |= {"freeze": True}
    cpu, gpu = (load_run(edited(demo, "compute.gpu", gpu), root=ROOT) for gpu in (0, 1))
    context = cpu.config.global_.context
    job = SimpleNamespace(slide="demo-lung-1", encoder=context.name, px="1024", key=context.key)
    # 64 windows of 64 px at once, or of 1024 px; four batches of them.
    assert cpu.peak_mb("embed_windows", job) == pytest.approx(750 + 64 + (650 + 4 * 3) * 64 * 64**2 / 1e6)
    assert gpu.peak_mb("embed_windows", job) == pytest.approx(750 + 64 + 3000 + 4 * 3 * 64 * 1024**2 / 1e6)


def test_a_language_model_has_a_fixed_size(demo):
    assert peak(demo, "propose_labels") < 1000
    assert peak(edited(demo, "proposals", {"model": "resources/weights/llm"}), "compare_annotators") == LANGUAGE_MODEL_MB
