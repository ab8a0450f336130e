"""H&E images on their bundles: wrong alignments and images of something else, through `nuclass check` and `register_image`."""
# ruff: noqa: E501 -- a case is a row of a table.

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.wrong_inputs.case import Case, Step, both, command, fifo, nothing, stage, write

CHECK = command("check", "outs", "--image", "he.ome.tif", "--alignment", "alignment.csv")
PLAIN = command("check", "outs", "--image", "he.ome.tif")


def _config(name: str) -> Any:
    from nuclass_pipeline.config import image

    return getattr(image, name)()


def register(image: str = "he.ome.tif", alignment: str | None = "alignment.csv") -> Step:
    """Return the job that registers an image."""
    return stage(
        "data.registration.stage:register_image",
        slide="mine-1",
        manifest=Path("outs/experiment.xenium"),
        cells=Path("cells.parquet"),
        image=Path(image),
        alignment=alignment and Path(alignment),
        config=lambda: _config("RegistrationConfig"),
        segmentation=lambda: _config("SegmentationConfig"),
        registration=Path("out/registration.json"),
    )


def pixels(change: Callable[[Any], Any], **options: Any) -> Step:
    """Return the step that changes the pixels of the H&E, and writes it as a plain tiled TIFF."""

    def run() -> None:
        import tifffile

        changed = change(tifffile.imread("he.ome.tif"))
        Path("he.ome.tif").unlink()
        tifffile.imwrite("he.ome.tif", np.ascontiguousarray(changed), photometric="rgb", tile=(256, 256), compression="zlib", **options)

    return run


def matrix(change: Callable[[Any], Any]) -> Step:
    """Return the step that changes the alignment's matrix."""

    def run() -> None:
        found = np.loadtxt("alignment.csv", delimiter=",")
        np.savetxt("alignment.csv", change(found), delimiter=",")

    return run


def _about_middle(linear: Any) -> Step:
    """Return the step that changes the alignment by a linear map about the middle of the cells."""

    def change(found: Any) -> Any:
        middle = np.array([[found[0, 2]], [found[1, 2]]]) + found[:2, :2] @ np.array([[_size()[1] / 2], [_size()[0] / 2]])
        whole = np.eye(3)
        whole[:2, :2] = linear
        whole[:2, 2:] = middle - linear @ middle
        return whole @ found

    return matrix(change)


def _size() -> tuple[int, int]:
    import tifffile

    with tifffile.TiffFile("he.ome.tif") as file:
        return file.pages[0].shape[:2]  # type: ignore[union-attr,return-value]


def turned(degrees: float) -> Step:
    """Return the step that turns the alignment about the middle of the image."""
    angle = np.deg2rad(degrees)
    return _about_middle(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


def moved(um: float) -> Step:
    """Return the step that moves the alignment."""
    return matrix(lambda m: np.array([[1, 0, um / 0.2125], [0, 1, 0], [0, 0, 1]]) @ m)


def keypoints(
    header: str = "fixedX,fixedY,alignmentX,alignmentY", error_px: float = 0, order: str = "", count: int = 6, sep: str = ","
) -> Step:
    """Return the step that writes keypoints in place of the matrix; `order` picks columns."""

    def run() -> None:
        found = np.loadtxt("alignment.csv", delimiter=",")
        points = np.random.default_rng(0).uniform(0, 1, (count, 2)) * np.array(_size()[::-1])
        fixed = points @ found[:2, :2].T + found[:2, 2]
        fixed[-1] += error_px
        columns = np.hstack([fixed, points])[:, [int(letter) for letter in order or "0123"]]
        lines = [sep.join(f"{number:.4f}" for number in row) for row in columns]
        Path("alignment.csv").write_text("\n".join([header, *lines]) + "\n")

    return run


def other_image(path: str = "he.ome.tif") -> Step:
    """Return the step that takes the H&E of another slide."""

    def run() -> None:
        Path("other-he.tif").rename(path)

    return run


def _good() -> None:
    import json

    record = json.loads(Path("out/registration.json").read_text())
    assert record["verdict"] == "good", record["verdict"]
    assert abs(record["mpp_he"] - 0.2738) < 0.003, record["mpp_he"]


def _corners(color: tuple[int, ...], share: float = 0.35) -> Callable[[Any], Any]:
    def change(image: Any) -> Any:
        y, x = np.ogrid[: image.shape[0], : image.shape[1]]
        edge = share * min(image.shape[:2])
        image = image.copy()
        image[(y + x < edge) | ((image.shape[0] - y) + x < edge)] = color
        return image

    return change


def _frame(color: int, width: int) -> Callable[[Any], Any]:
    return lambda image: np.pad(image[width:-width, width:-width], ((width, width), (width, width), (0, 0)), constant_values=color)


def _case(
    name: str,
    wrong: str,
    make: Step,
    says: str = "alignment|registration|he.ome.tif",
    door: Step | None = None,
    big: bool = False,
    **named: Any,
) -> Case:
    needs = ("big", "stages-big") if big else ("small", "stages-small", "other-image")
    return Case("registration", name, wrong, make, door or register(), says=says, needs=needs, **named)


def _half(image: Any) -> Any:
    image = image.copy()
    image[: image.shape[0] // 2] = 255
    return image


SHEAR = np.array([[1, np.tan(np.deg2rad(2))], [0, 1]])
CASES = [
    _case("right", "nothing", nothing, expects="accepted", check=_good),
    _case("right, big", "nothing", nothing, big=True, expects="accepted", check=_good),
    _case("another patient", "H&E of another slide", other_image(), "he|registration|unclear"),
    _case("another patient: check", "H&E of another slide", other_image(), "registration", CHECK),
    _case("another patient, big", "H&E of another slide, scaled to size", pixels(lambda i: np.roll(i[:, ::-1], i.shape[0] // 3, 0)), big=True),
    _case("turned by 3°", "alignment turned", turned(3), big=True),
    _case("turned by 3°: check", "alignment turned", turned(3), "registration|problem", CHECK, big=True),
    _case("turned by 90°", "alignment turned", turned(90)),
    _case("turned by 180°", "alignment turned", turned(180)),
    _case("turned by 1°", "within 5 µm almost everywhere", turned(0.3), expects="accepted or refused or warned"),
    _case("sheared by 2°", "alignment sheared", _about_middle(SHEAR), big=True, expects="refused or warned or accepted",
          says=""),
    _case("sheared by 6°", "alignment sheared", _about_middle(np.array([[1, np.tan(np.deg2rad(6))], [0, 1]])), big=True),
    _case("scaled by 3 %", "one axis and the other", _about_middle(np.diag([1.03, 1.03])), big=True),
    _case("axes differ by 12 %", "one axis alone", _about_middle(np.diag([1.12, 1.0])), "alignment"),
    _case("mirrored alignment", "det < 0", _about_middle(np.diag([-1.0, 1.0]))),
    _case("mirrored image", "image flipped, alignment not", pixels(lambda i: i[:, ::-1])),
    _case("moved by 8 µm", "shift", moved(8), "shift|8|µm", big=True),
    _case("moved by 25 µm", "shift", moved(25), "shift|µm"),
    _case("moved by 60 µm", "beyond the search", moved(60)),
    _case("moved by 1 mm", "off the cells", moved(1000), "alignment|inside"),
    _case("inverse matrix", "Xenium to H&E", matrix(np.linalg.inv), "alignment"),
    _case("inverse matrix: check", "Xenium to H&E", matrix(np.linalg.inv), "alignment|inside", CHECK),
    _case("µm matrix", "times 0.2125", matrix(lambda m: np.diag([0.2125, 0.2125, 1]) @ m), "alignment"),
    _case("µm to µm matrix", "without scale", matrix(lambda m: np.diag([0.2125, 0.2125, 1]) @ m @ np.diag([1 / 0.2738, 1 / 0.2738, 1])), "alignment"),
    _case("transposed matrix", "rows and columns", matrix(lambda m: m.T), "alignment"),
    _case("singular matrix", "second row zero", matrix(lambda m: m * [[1], [0], [1]]), "alignment"),
    _case("nan matrix", "nan", matrix(lambda m: m * np.nan), "alignment"),
    _case("projective matrix", "last row not 0, 0, 1", matrix(lambda m: m + np.diag([0, 0, 0.0]) + np.outer([0, 0, 1], [1e-4, 0, 0])), "alignment"),
    _case("two rows", "last row left out", lambda: np.savetxt("alignment.csv", np.loadtxt("alignment.csv", delimiter=",")[:2], delimiter=","),
          "alignment", expects="refused or accepted"),
    _case("no alignment", "an H&E that needs one", nothing, "align|he.ome", register(alignment=None)),
    _case("no alignment: check", "an H&E that needs one", nothing, "", PLAIN),
    _case("semicolons", "German Excel", lambda: Path("alignment.csv").write_text(
          Path("alignment.csv").read_text().replace(",", ";").replace(".", ",")), "alignment", expects="refused or accepted"),
    _case("bom", "UTF-8 with a byte order mark", lambda: Path("alignment.csv").write_text("\ufeff" + Path("alignment.csv").read_text()), "",
          expects="accepted", check=_good),
    _case("utf-16", "Notepad", lambda: Path("alignment.csv").write_bytes(Path("alignment.csv").read_text().encode("utf-16")), "",
          expects="accepted", check=_good),
    _case("quoted numbers", "Excel text cells", lambda: Path("alignment.csv").write_text(
          "\n".join(",".join(f'"{x}"' for x in line.split(",")) for line in Path("alignment.csv").read_text().split())), "",
          expects="accepted or refused"),
    _case("zip of Explorer", "the zip of Xenium Explorer",
          lambda: __import__("zipfile").ZipFile("a.zip", "w").write("alignment.csv", "matrix.csv"), "a.zip", register(alignment="a.zip"),
          expects="accepted or refused"),
    _case("empty alignment", "0 bytes", write("alignment.csv", ""), "alignment"),
    _case("alignment fifo", "a FIFO", fifo("alignment.csv"), "alignment", cpu_s=10),
    _case("alignment is the image", "paths exchanged", nothing, "he.ome.tif", register(alignment="he.ome.tif"), cpu_s=10),
    _case("keypoints", "six pairs", keypoints(), "", expects="accepted", check=_good),
    _case("keypoints in other order", "alignment first, capitals", keypoints("AlignmentX,AlignmentY,FixedX,FixedY", order="2301"), "",
          expects="accepted", check=_good),
    _case("keypoints exchanged", "fixed and alignment exchanged", keypoints(order="2301"), "alignment"),
    _case("keypoint off", "one pair 120 px off", keypoints(error_px=120), "alignment.*(pair|row|line|keypoint)"),
    _case("two keypoints", "too few", keypoints(count=2), "alignment"),
    _case("keypoints on a line", "four times one point", both(keypoints(count=1), lambda: Path("alignment.csv").write_text(
          "\n".join([Path("alignment.csv").read_text().split()[0], *[Path("alignment.csv").read_text().split()[1]] * 4]))), "alignment"),
    _case("keypoints without header", "numbers alone", both(keypoints(), lambda: Path("alignment.csv").write_text(
          Path("alignment.csv").read_text().partition("\n")[2])), "alignment"),
    _case("keypoints in µm", "fixed in µm", both(keypoints(), lambda: Path("alignment.csv").write_text("\n".join(
          [line if n == 0 else ",".join(str(float(x) * (0.2125 if k < 2 else 1)) for k, x in enumerate(line.split(",")))
           for n, line in enumerate(Path("alignment.csv").read_text().split())]))), "alignment"),
    _case("other level", "the second level saved as the slide", pixels(lambda i: i[::2, ::2]), "he.ome.tif|alignment|registration"),
    _case("other level: check", "the second level saved as the slide", pixels(lambda i: i[::2, ::2]), "", CHECK),
    _case("bgr", "blue and red exchanged", pixels(lambda i: i[..., ::-1]), "he.ome.tif|color|colour|red|registration"),
    _case("negative", "colours inverted", pixels(lambda i: 255 - i)),
    _case("grey", "one channel thrice", pixels(lambda i: np.repeat(i.mean(2, keepdims=True).astype(np.uint8), 3, 2)), "", expects="accepted or refused or warned"),
    _case("half blank", "upper half white", pixels(_half), "he|registration|outside|tissue|image", expects="refused or warned"),
    _case("upper fifth", "cut to a fifth", pixels(lambda i: i[: len(i) // 5]), "inside|on the H&E"),
    _case("upper fifth: check", "cut to a fifth", pixels(lambda i: i[: len(i) // 5]), "inside", CHECK),
    _case("all white", "blank scan", pixels(lambda i: np.full_like(i, 245))),
    _case("all black", "scanner error", pixels(np.zeros_like)),
    _case("noise", "random pixels", pixels(lambda i: np.random.default_rng(0).integers(0, 255, i.shape, np.uint8))),
    _case("black corners", "empty glass is black", pixels(_corners((0, 0, 0))), "", expects="accepted or warned", check=_good),
    _case("black frame", "a frame of 60 px", pixels(_frame(0, 40)), "", expects="accepted or warned", check=_good),
    _case("grey frame", "a frame of scanner grey", pixels(_frame(200, 40)), "", expects="accepted or warned", check=_good),
    _case("transparent corners", "RGBA, alpha 0 over black",
          pixels(lambda i: np.dstack([np.where(_corners((0, 0, 0))(i).any(2, keepdims=True), i, 0),
                                      255 * _corners((0, 0, 0))(i).any(2).astype(np.uint8)]), extrasamples=["unassalpha"]),
          "", expects="accepted or warned", check=_good),
    _case("pen mark", "blue ink over a corner", pixels(_corners((30, 40, 160), 0.3)), "", expects="accepted or warned or refused"),
    _case("turned tag", "orientation 6", pixels(lambda i: i, extratags=[(274, 3, 1, 6, True)]), "orientation|he.ome.tif", expects="refused or accepted or warned"),
    _case("not square", "x resampled by 1.5, told in the alignment", both(pixels(lambda i: i[:, np.arange(0, i.shape[1], 1.5).astype(int)]),
          matrix(lambda m: m @ np.diag([1.5, 1, 1]))), "alignment|axes|he.ome.tif", expects="refused or accepted"),
    _case("dapi as H&E", "the morphology image thrice", lambda: __import__("tifffile").imwrite("he.ome.tif", np.repeat(
          (__import__("tifffile").imread("outs/morphology_focus/morphology_focus_0000.ome.tif").squeeze() >> 4).astype(np.uint8)[..., None], 3, 2),
          photometric="rgb"), "he|registration", register(alignment=None)),
]  # fmt: skip
