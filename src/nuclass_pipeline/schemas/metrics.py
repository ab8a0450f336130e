"""Columns of predictions, and of the tables of a whole run."""

from nuclass_pipeline.schemas.cells import TRUTH
from nuclass_pipeline.table_schema import Column, Table

ALL = "all"
"""Value of `label`, `organ` or `subset` where they are joined."""
MEAN = "mean"
"""Value of `slide` for the mean of the slides' scores."""
POOLED = "pooled"
"""Value of `slide` for scores over the cells of all slides."""
JOINED = (MEAN, POOLED)

_CELL, _LABEL = TRUTH.pick("cell_id", "label")
_SLIDE = Column("slide", "text", "slide")
_CORNER = (
    Column("x_um", "number", "left edge of the picture in the frame of the cells, µm"),
    Column("y_um", "number", "upper edge, µm"),
)

PREDICTIONS = Table(
    "predictions",
    (
        _CELL,
        _LABEL,
        Column("subset", "text", "subset of the split"),
        Column("block", "text", "spatial block"),
        Column("x_um", "number", "µm"),
        Column("y_um", "number", "µm"),
        Column("padded", "flag", "the context window reaches over the edge of the image"),
        Column("predicted", "text", "argmax over all classes of the model"),
        Column("gate_weight", "number", "weight of the global path, from 0 to 1; 0 in tables of the local path"),
    ),
    unique=("cell_id",),
    extra="p_<class>: uncalibrated probability of each class of the model; c_<class>: calibrated, and confidence: the highest of them "
    "(not for training slides, on which the calibration is fitted)",
)
METRICS = Table(
    "metrics",
    (
        Column("run", "text", "run"),
        Column("model", "text", "local, global, gate, or a baseline's name"),
        Column("variant", "text", "base, or a variant of the run file; of domains, fitted or a control; of labels, rules"),
        Column(
            "probabilities",
            "text",
            "raw or calibrated; temperature: fitted, before the choice; empty for scores that are not of models",
            optional=True,
        ),
        Column("seed", "integer", "seed of training"),
        Column("slide", "text", "slide, mean or pooled"),
        Column("organ", "text", "organ; all where slides are joined"),
        Column("label", "text", "class, or all"),
        Column("label_set", "text", "open: argmax over all classes of the model; closed: over those present on the slide"),
        Column("metric", "text", "accuracy, macro_f1, weighted_f1, f1, ece, brier, nll, …"),
        Column("value", "number", "value", optional=True),
        Column("ci_low", "number", "2.5 % bound, bootstrap over spatial blocks", optional=True),
        Column("ci_high", "number", "97.5 % bound", optional=True),
        Column("n_cells", "integer", "cells"),
    ),
)
VARIANTS = Table(
    "variants",
    (
        Column("run", "text", "run"),
        Column("variant", "text", "base, or a variant of the run file"),
        Column("slide", "text", "slide or mean"),
        Column("model", "text", "local, global, gate, or a baseline's name"),
        Column("metric", "text", "macro_f1 and accuracy of raw probabilities, ece of calibrated ones; open label set, mean over seeds"),
        Column("value", "number", "value of the variant"),
        Column("value_low", "number", "2.5 % bound, bootstrap over spatial blocks", optional=True),
        Column("value_high", "number", "97.5 % bound", optional=True),
        Column(
            "difference", "number", "variant minus base, on the cells that both scored with one label; empty for the base", optional=True
        ),
        Column("difference_low", "number", "2.5 % bound, paired: the same blocks of both", optional=True),
        Column("difference_high", "number", "97.5 % bound", optional=True),
        Column("n_cells", "integer", "cells compared; of the base, cells scored"),
    ),
    unique=("variant", "slide", "model", "metric"),
)
COHORT = Table(
    "cohort",
    (
        Column("run", "text", "run"),
        _SLIDE,
        Column("organ", "text", "organ"),
        Column("role", "text", "train, heldout or label"),
        Column("subset", "text", "subset of the split; all where subsets are joined"),
        _LABEL,
        Column("cells", "integer", "cells"),
    ),
    unique=("slide", "subset", "label"),
)
RELIABILITY = Table(
    "reliability",
    (
        Column("run", "text", "run"),
        Column("model", "text", "local, global, gate, or a baseline's name"),
        Column("variant", "text", "base, or a variant of the run file"),
        Column("probabilities", "text", "raw or calibrated"),
        Column("seed", "integer", "seed of training"),
        Column("slide", "text", "slide or pooled"),
        Column("label_set", "text", "open or closed"),
        Column("bin", "integer", "bin of the highest probability, from 0"),
        Column("bin_low", "number", "lower edge, inside the bin"),
        Column("bin_high", "number", "upper edge, outside the bin save in the last"),
        Column("confidence", "number", "mean of the highest probability; empty for an empty bin", optional=True),
        Column("accuracy", "number", "share of cells that are right; empty for an empty bin", optional=True),
        Column(
            "accuracy_low", "number", "2.5 % bound, bootstrap over spatial blocks; empty where the resamples do not differ", optional=True
        ),
        Column("accuracy_high", "number", "97.5 % bound", optional=True),
        Column("n_cells", "integer", "cells"),
    ),
    unique=("model", "probabilities", "seed", "slide", "label_set", "bin"),
)
REGISTRATION = Table(
    "registration",
    (
        _SLIDE,
        Column("organ", "text", "organ"),
        Column("mpp_he", "number", "µm per H&E pixel by the alignment"),
        Column("shift_x_um", "number", "shift that fits haematoxylin to nuclei best, µm"),
        Column("shift_y_um", "number", "µm"),
        Column("correlation", "number", "correlation of haematoxylin with nuclei at zero shift"),
        Column("correlation_best", "number", "the same at the best shift"),
        Column("verdict", "text", "good, shifted or unclear"),
        Column("thumbnail", "bytes", "PNG of the H&E where cells are densest, with a circle on every cell"),
        Column("field_um", "number", "side of that picture, µm"),
    ),
    unique=("slide",),
)
OVERVIEWS = Table(
    "overviews",
    (
        _SLIDE,
        *_CORNER,
        Column("mpp", "number", "side of a pixel, µm"),
        Column("image", "bytes", "JPEG of the H&E"),
    ),
    unique=("slide",),
)
POINT_IMAGES = Table(
    "point_images",
    (
        _SLIDE,
        Column("image", "text", "image"),
        Column("case", "text", "patient, or what else images are split by"),
        *_CORNER,
        Column("field_um", "number", "side of the picture, µm"),
        Column("picture", "bytes", "JPEG of the H&E"),
    ),
    unique=("slide", "image"),
)
QUALITY = Table(
    "quality",
    (
        _SLIDE,
        Column("organ", "text", "organ"),
        Column("role", "text", "train, heldout, predict or label"),
        Column("kind", "text", "synthetic, xenium, image, images or trio"),
        Column("cells", "integer", "cells"),
        Column("transcripts_median", "number", "median of the gene transcripts of a cell; empty for slides without Xenium", optional=True),
        Column("genes_median", "number", "median of the genes with a transcript in a cell; empty for slides without Xenium", optional=True),
        Column("panel_genes", "number", "genes on the panel; empty for slides without Xenium", optional=True),
        Column("cell_types", "number", "cell types that can occur in the organ; empty for slides without Xenium", optional=True),
        Column("cell_types_seen", "number", "those with a positive marker on the panel; empty for slides without Xenium", optional=True),
        Column("labelled", "integer", "cells with a label"),
        Column("unresolved", "text", "cells without a label, by reason: `poor quality 100; weak support 3`"),
        Column("nuclei", "number", "cells with a nucleus; empty where the files do not say", optional=True),
        Column("excluded", "number", "cells without an image, which are in no subset; empty for slides without a split", optional=True),
        Column("exclusions", "text", "the same by reason"),
        Column("tissue_share", "number", "share of the H&E that is tissue; empty for slides without H&E", optional=True),
        Column("verdict", "text", "registration: good, shifted, unclear or accepted; empty for slides without registration", optional=True),
        Column("correlation", "number", "correlation of haematoxylin with nuclei at the best shift", optional=True),
        Column("correlation_chance", "number", "the same by chance", optional=True),
        Column("shift_um", "number", "length of the best shift, µm", optional=True),
        Column("cells_inside", "number", "share of the cells that lie on the H&E", optional=True),
    ),
    unique=("slide",),
)
RUNTIME = Table(
    "runtime",
    (
        Column("rule", "text", "rule"),
        Column("jobs", "integer", "jobs with a benchmark file"),
        Column("seconds", "number", "sum of their times, s"),
        Column("cpu_seconds", "number", "sum of their CPU times as sampled by Snakemake, s"),
        Column("peak_mb", "number", "largest resident memory of a job, MB; empty where no job was sampled", optional=True),
    ),
    unique=("rule",),
)
WARNINGS = Table(
    "warnings",
    (
        Column("slide", "text", "slide; empty where a warning is about the run"),
        Column("stage", "text", "result that the warning is about, by its name in the list above"),
        Column("warning", "text", "what to know before the results are used"),
    ),
)
ATTRIBUTION = Table(
    "attribution",
    (
        _SLIDE,
        _CELL,
        _LABEL,
        Column("gate_predicted", "text", "class that the gate predicts"),
        Column("gate_probability", "number", "its probability, not calibrated"),
        Column("predicted", "text", "class that the model predicts; its evidence is shown"),
        Column("probability", "number", "its probability, not calibrated"),
        Column("model", "text", "local or global"),
        Column("image", "bytes", "PNG of the crop"),
        Column("tissue", "bytes", "PNG of the same size: white where the crop shows tissue, black on glass and in lumens"),
        Column("field_um", "number", "side of the crop, µm"),
        Column("heat", "list", "row-major square map, 0 to 1; times the share of tissue, so that glass and lumens are masked"),
        Column("masked_share", "number", "share of the map that the mask removed, 0 to 1; empty where the map is 0", optional=True),
    ),
)
