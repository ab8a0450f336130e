"""Whether the scores of a run are those of the predictions that lie beside them."""

import numpy as np

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.metrics import OVERALL, tally_blocks
from nuclass_pipeline.evaluate.predictions import HELDOUT, ScoredCells, read_scored
from nuclass_pipeline.evaluate.two_runs import ScoredRun
from nuclass_pipeline.layout import RESULTS
from nuclass_pipeline.schemas import ALL

# Not the calibration error, because its bins are a setting of the run.
_RECOMPUTED = ("accuracy", "macro_f1", "brier")
_ROUNDING = 1e-6


def check_scores(run: ScoredRun) -> None:
    """Check that the metrics of a run are of the predictions beside them: scores without resamples are computed again.

    Raises
    ------
    UserError
        If a score differs, as it does where predictions were replaced and not scored again.
    """
    metrics = run.folder / RESULTS["heldout_metrics"].path.format(variant=run.variant)
    rows = run.metrics[run.metrics["label_set"].eq("open") & run.metrics["probabilities"].eq("raw") & run.metrics["label"].eq(ALL)]
    rows = rows[rows["slide"].isin(run.slides) & rows["metric"].isin(_RECOMPUTED)]
    for (slide, model, seed), part in rows.groupby(["slide", "model", "seed"], sort=False):
        path = run.prediction(str(slide), str(model), int(str(seed)))
        found = _recompute(read_scored(path, HELDOUT))
        for metric, value in zip(part["metric"], part["value"], strict=True):
            if abs(found[metric] - value) > _ROUNDING:
                values = f"{metric} of {model} on {slide} is {value:.6f}, and {found[metric]:.6f} from {path}"
                problem = f"{values}, so it is of other predictions"
                raise UserError(metrics, "value", problem, "Remove the file and start the run again, which scores them.")


def _recompute(cells: ScoredCells) -> dict[str, float]:
    one_block = np.zeros_like(cells.block)
    tally = tally_blocks(cells.truth, cells.proba, one_block, blocks=1, bins=1, labels=len(cells.labels))
    return {name: float(OVERALL[name](tally)[0]) for name in _RECOMPUTED}
