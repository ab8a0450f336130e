from nuclass_pipeline.report.scores import score_table
from tests.unit.report.study import write_cohort, write_heldout


def test_classes_follow_the_vocabulary_and_those_never_trained_are_shown(tmp_path):
    table = score_table(write_heldout(tmp_path / "heldout.parquet"), write_cohort(tmp_path / "cohort.parquet"))
    assert table["slides"] == ["pooled", "lung-2", "lung-3"]
    assert [(row["label"], row["trained"]) for row in table["rows"]] == [("B_Cell", 8), ("Monocyte", None), ("T_Cell", 40)]
    assert table["rows"][1]["slides"][1] == {"cells": 3, "scores": [0.0]}
    assert table["rows"][2]["slides"][1:] == [{"cells": 17, "scores": [0.6]}, {"cells": 0, "scores": [None]}]
    assert table["rows"][0]["slides"][1] == {"cells": 0, "scores": [None]}
