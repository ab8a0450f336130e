"""Run files and command lines, through `snakemake -n`."""
# ruff: noqa: E501 -- a case is a row of a table.

from pathlib import Path

from benchmarks.wrong_inputs.case import Case, Step, both, command, fifo, link, nothing, remove, replace, snakemake, write

FILE = "project/config/mine.yaml"
DRY = snakemake("-n", "--quiet", "host", "--configfile", "config/mine.yaml")


def edited(old: str, new: str) -> Step:
    """Return the step that changes the run file."""
    return replace(FILE, old, new)


def added(text: str) -> Step:
    """Return the step that adds lines to the run file."""

    def run() -> None:
        with Path(FILE).open("a", encoding="utf-8") as file:
            file.write(text)

    return run


def corrected(old: str, new: str) -> "object":
    """Return what follows the remedy: the run file with `new`, which the message must name, for `old`."""

    def run(message: str) -> None:
        assert new.strip("[],:") in message, f"{new!r} is not in the message {message!r}"
        replace(FILE, old, new)()

    return run


def _case(name: str, wrong: str, make: Step, says: str = "mine.yaml", door: Step = DRY, **named: object) -> Case:
    return Case("runs", name, wrong, make, door, says=says, needs=("project",), **named)  # type: ignore[arg-type]


def _dry(*words: str) -> Step:
    return snakemake("-n", "--quiet", "host", *words)


CASES = [
    _case("right", "nothing", nothing, "", expects="accepted"),
    _case("key misspelt", "study.heldout as held_out", edited("heldout:", "held_out:"), "mine.yaml.*held_?out.*heldout",
          mend=corrected("held_out:", "heldout:")),
    _case("top key misspelt", "sedes for seeds", added("sedes: [1]\n"), "sedes.*seeds"),
    _case("nested key misspelt", "cache_gbs", edited("threads: 1", "cache_gbs: 1, threads: 1"), "cache_gbs.*cache_gb",
          mend=corrected("cache_gbs", "cache_gb")),
    _case("key twice", "study twice", added("study: {train: [mine-2], heldout: [mine-1]}\n"), "mine.yaml.*study"),
    _case("tab indent", "tabs in YAML", edited("  train:", "\ttrain:"), "mine.yaml.*line"),
    _case("unclosed bracket", "a list never closed", edited("[mine-2]", "[mine-2"), "mine.yaml.*line"),
    _case("curly quotes", "typographic quotes around the name", edited("run: trial", "run: “trial"), "mine.yaml.*run"),
    _case("python tag", "!!python/object/apply:os.system", added("x: !!python/object/apply:os.system ['touch ../../outside/pwned']\n"),
          "mine.yaml"),
    _case("billion laughs", "aliases that grow",
          added("".join(f"a{i}: &a{i} [{', '.join(['*a' + str(i - 1)] * 10) if i else 'x'}]\n" for i in range(10))), "mine.yaml", cpu_s=10),
    _case("deep nesting", "20,000 brackets", added("x: " + "[" * 20000 + "]" * 20000 + "\n"), "mine.yaml", cpu_s=10),
    _case("empty file", "0 bytes", write(FILE, "")),
    _case("list file", "a list, no keys", write(FILE, "- a\n- b\n")),
    _case("text file", "one word", write(FILE, "hello\n")),
    _case("json file", "the same as JSON, which is YAML", write(FILE, '{"run": "trial", "study": {"train": ["mine-1"], "heldout": ["mine-2"]}, '
          '"local": {"backbone": {"name": "tiny-resnet"}}, "global": {"context": {"name": "tiny-resnet"}}}'), "", expects="accepted"),
    _case("utf-16 file", "Notepad's Unicode", replace(FILE, "run", "run", "utf-16"), "", expects="accepted or refused"),
    _case("utf-8 bom", "byte order mark", replace(FILE, "run: trial", "\ufeffrun: trial"), "", expects="accepted"),
    _case("latin-1 comment", "Latin-1 comment", lambda: Path(FILE).write_bytes(b"# M\xfcller\n" + Path(FILE).read_bytes()), "mine.yaml",
          expects="accepted or refused"),
    _case("nul bytes", "a file of zeros after a crash", write(FILE, b"\0" * 4096)),
    _case("binary file", "a PNG named as a run file", write(FILE, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)),
    _case("fifo", "a FIFO in its place", fifo(FILE), "mine.yaml", cpu_s=10),
    _case("huge file", "200 MB of one key", lambda: Path(FILE).write_text("run: trial\n#" + "x" * 2 * 10**8), "mine.yaml", cpu_s=10),
    _case("missing file", "misspelt config file", nothing, "mnie.yaml.*mine.yaml", _dry("--configfile", "config/mnie.yaml")),
    _case("folder", "a folder as config file", nothing, "config", _dry("--configfile", "config")),
    _case("target after configfile", "targets after --configfile", nothing, "slides", _dry("--configfile", "config/mine.yaml", "slides")),
    _case("unknown target", "target that no rule makes", nothing, "figuers", snakemake("figuers", "-n", "--quiet", "host", "--configfile", "config/mine.yaml")),
    _case("unknown config key on the command line", "--config typo", nothing, "sedes",
          _dry("--configfile", "config/mine.yaml", "--config", "sedes=3")),
    _case("unknown class", "B-cells for B_Cell", edited("  heldout: [mine-2]", "  heldout: [mine-2]\n  classes: [B_Cel, T_Cell]"),
          "study.classes.*B_Cel.*B_Cell", mend=corrected("B_Cel,", "B_Cell,")),
    _case("class twice", "T_Cell twice", edited("  heldout: [mine-2]", "  heldout: [mine-2]\n  classes: [T_Cell, B_Cell, T_Cell]"), "T_Cell"),
    _case("one class", "a single class", edited("  heldout: [mine-2]", "  heldout: [mine-2]\n  classes: [T_Cell]"), "classes"),
    _case("no class", "an empty list of classes", edited("  heldout: [mine-2]", "  heldout: [mine-2]\n  classes: []"), "classes"),
    _case("classes as text", "classes: T_Cell, B_Cell", edited("  heldout: [mine-2]", "  heldout: [mine-2]\n  classes: T_Cell, B_Cell"),
          "classes"),
    _case("lineage as class", "Epithelial is no class", edited("  heldout: [mine-2]", "  heldout: [mine-2]\n  classes: [Immune, T_Cell]"),
          "classes.*Immune"),
    _case("slide twice", "a slide twice in train", edited("[mine-1]", "[mine-1, mine-1]"), "mine-1"),
    _case("slide in two roles", "trained and held out", edited("heldout: [mine-2]", "heldout: [mine-1]"), "mine-1"),
    _case("slide unknown", "mine-3", edited("train: [mine-1]", "train: [mine-3]"), "study.*mine-3"),
    _case("slide capitals", "Mine-1", edited("train: [mine-1]", "train: [Mine-1]"), "Mine-1.*mine-1", mend=corrected("[Mine-1]", "[mine-1]")),
    _case("no training slide", "train: []", edited("train: [mine-1]", "train: []"), "train"),
    _case("null training", "train without a value", edited("train: [mine-1]", "train:"), "train"),
    _case("slides as text", "train: mine-1", edited("train: [mine-1]", "train: mine-1"), "train"),
    _case("same bundle under two ids", "row 2 names the files of row 1", replace("project/config/slides.tsv", "data/2/", "data/1/"),
          "mine-[12]"),
    _case("copied bundle under two ids", "folder 2 is a copy of folder 1",
          both(remove("project/data/2"), lambda: __import__("shutil").copytree("project/data/1", "project/data/2")), "mine-[12]"),
    _case("seed twice", "seeds: [1, 1]", added("seeds: [1, 1]\n"), "seed"),
    _case("seed negative", "seeds: [-1]", added("seeds: [-1]\n"), "seeds"),
    _case("seed as text", "seeds: one", added("seeds: one\n"), "seeds"),
    _case("seed huge", "2^80", added("seeds: [1208925819614629174706176]\n"), "seeds"),
    _case("run name long", "300 letters", edited("run: trial", "run: " + "a" * 300), "run"),
    _case("run name path", "../up", edited("run: trial", "run: ../../../outside"), "run"),
    _case("run name absolute", "/tmp/x", edited("run: trial", "run: /tmp/x"), "run"),
    _case("run name braces", "{slide}", edited("run: trial", "run: 'a{slide}'"), "run"),
    _case("run name blank", "my run", edited("run: trial", "run: my run"), "run"),
    _case("run name number", "run: 2024-01-01 is a date in YAML", edited("run: trial", "run: 2024-01-01"), "run",
          expects="refused or accepted"),
    _case("run name empty", "run:", edited("run: trial", "run:"), "run"),
    _case("fractions above one", ".7 .2 .2", added("split: {fractions: {train: 0.7, gate: 0.2, val: 0.2}}\n"), "split.fractions"),
    _case("fraction zero", "val 0", added("split: {fractions: {train: 0.8, gate: 0.2, val: 0}}\n"), "split.fractions"),
    _case("buffer too small", "split.buffer_um 10, below half a window", added("split: {buffer_um: 10}\n"), "buffer_um"),
    _case("nan in a number", "image.mpp: .nan", added("image: {mpp: .nan}\n"), "mpp"),
    _case("infinite number", "max_shift_um: .inf", added("registration: {max_shift_um: .inf}\n"), "max_shift_um"),
    _case("decimal comma", "mpp: 0,25", added("image:\n  mpp: 0,25\n"), "mpp"),
    _case("octal number", "evaluation.bins: 010 is 8 in YAML", added("evaluation: {bins: 010}\n"), "bins|010"),
    _case("yes for a number", "compute.gpu: yes", edited("threads: 1", "threads: 1, gpu: yes"), "gpu"),
    _case("gpu absent", "gpu: 1 on a machine without", edited("threads: 1", "threads: 1, gpu: 1"), "gpu"),
    _case("precision", "fp16", edited("32-true", "fp16"), "precision"),
    _case("backbone misspelt", "tiny_resnet", edited("name: tiny-resnet, image_px: 112", "name: tiny_resnet, image_px: 112"), "tiny-resnet",
          mend=corrected("tiny_resnet", "tiny-resnet")),
    _case("backbone up a folder", "name ../../x", edited("name: tiny-resnet, image_px: 64", "name: ../../x, image_px: 64"), "context.*name"),
    _case("backbone hub name", "hf-hub:MahmoodLab/UNI", edited("name: tiny-resnet, image_px: 64", "name: 'hf-hub:MahmoodLab/UNI'"),
          "context.*name"),
    _case("weights missing", "uni2-h without weights", edited("{name: tiny-resnet, image_px: 112}", "{name: uni2-h}"), "uni2-h|weights"),
    _case("weights folder misspelt", "weights: no/such", edited("{name: tiny-resnet, image_px: 112}", "{name: uni2-h, weights: no/such}"),
          "no/such"),
    _case("weights empty folder", "an empty folder",
          both(lambda: Path("project/w").mkdir(), edited("{name: tiny-resnet, image_px: 112}", "{name: uni2-h, weights: w}")), "w.*weights"),
    _case("cellpose without weights", "cellpose, none there", added("segmentation: {method: cellpose}\n"), "cellpose|weights"),
    _case("method misspelt", "watershad", added("segmentation: {method: watershad}\n"), "watershed"),
    _case("marker table missing", "labeling.markers: no.tsv", added("labeling: {markers: no.tsv}\n"), "no.tsv"),
    _case("annotation folder missing", "labeling.annotation: nowhere", added("labeling: {annotation: nowhere}\n"), "nowhere",
          expects="refused or accepted"),
    _case("language model absent", "llm-score without a model", added("proposals: {annotator: llm-score}\n"), "proposals"),
    _case("figure unknown", "figures: {1: confusoin}", added("figures: {1: confusoin}\n"), "confusion", mend=corrected("confusoin", "confusion")),
    _case("figure with dots", "figures: {1: ../../x}", added("figures: {1: ../../x}\n"), "figures"),
    _case("table unknown", "tables: {1: cohrot}", added("tables: {1: cohrot}\n"), "cohort"),
    _case("library missing", "programs.library: sets.gmt", added("programs: {library: sets.gmt}\n"), "sets.gmt"),
    _case("accepted slide unknown", "registration.accept_unclear of another slide", added("registration: {accept_unclear: [mine-9]}\n"),
          "mine-9"),
    _case("two numbers exchanged", "programs.min_size above max_size", added("programs: {min_size: 300, max_size: 200}\n"), "min_size|max_size"),
    _case("slide sheet missing", "slides: config/sldies.tsv", edited("config/slides.tsv", "config/sldies.tsv"), "sldies.tsv"),
    _case("sheet outside by link", "slide sheet is a link to nothing",
          both(remove("project/config/slides.tsv"), link("project/config/slides.tsv", "gone.tsv")), "slides.tsv"),
    _case("results is a file", "a file where results/ goes", write("project/results", "x"), "results", expects="refused or accepted"),
    _case("check: organ misspelt", "--organ lungs", nothing, "lungs.*lung", command("check", "project/data/1/outs", "--organ", "lungs")),
    _case("check: bundle misspelt", "no such folder", nothing, "no/outs", command("check", "no/outs")),
    _case("check: option misspelt", "--aligment", nothing, "", command("check", "project/data/1/outs", "--aligment", "x")),
    _case("check: image misspelt", "no such image", nothing, "no.tif", command("check", "project/data/1/outs", "--image", "no.tif")),
    _case("check: overlay into nowhere", "--overlay in a missing folder", nothing, "",
          command("check", "project/data/1/outs", "--image", "project/data/1/he.ome.tif", "--alignment", "project/data/1/alignment.csv",
                  "--overlay", "no/such/check.png"), expects="refused or accepted"),
    _case("summary: no run", "results of nothing", nothing, "nothing", command("summary", "results/nothing")),
    _case("export: no slide", "a folder without patches", nothing, "config", command("export-trio", "project/config", "out/x")),
    _case("markers: organ of another spelling", "--organ Lung", nothing, "lung",
          command("build-markers", "--organ", "Lung", "--output", "out/m.tsv", "--own", "project/config/markers.tsv")),
]  # fmt: skip
