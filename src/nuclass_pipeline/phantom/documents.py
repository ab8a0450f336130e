"""The JSON files of a bundle: gene panel and manifest."""

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nuclass_pipeline.io import write_json
from nuclass_pipeline.phantom.bundle import Bundle, cell_table
from nuclass_pipeline.phantom.frames import XENIUM_MPP
from nuclass_pipeline.phantom.transcripts import GOOD_QV

PANEL = "Xenium Human Multi-Tissue and Cancer Panel with add-on"
# Fixed, because equal seeds must give equal bytes.
_DATE = "2024-01-01T00:00:00"


def write_panel(features: pd.DataFrame, path: Path) -> None:
    """Write `gene_panel.json` with all genes, negative control probes and deprecated codewords.

    Parameters
    ----------
    features
        Table of `read_features`.
    path
        JSON file to write.
    """
    kinds = {"Gene Expression": "gene", "Negative Control Probe": "negative_control", "Deprecated Codeword": "deprecated_codeword"}
    identity = {"design_id": "demo_v1", "name": PANEL, "version": "1.0.0"}
    genes = int((features["feature_type"] == "Gene Expression").sum())
    targets = []
    for row in features[features["feature_type"].isin(kinds)].itertuples():
        kind = kinds[str(row.feature_type)]
        data = {"id": row.id, "name": row.name} if kind == "gene" else {"name": row.name}
        source = {"category": "custom" if row.category == "custom_gene" else "current", "identity": identity}
        targets.append(
            {"codewords": [row.codeword], "info": {"gene_coverage": 1}, "source": source, "type": {"data": data, "descriptor": kind}}
        )
    payload = {
        "chemistry": {"decoder": "xenium_decoding_v1", "version": "v1"},
        "customer": {"email": None, "name": None},
        "designer": {"date_created": _DATE, "designed_by": {"email": None, "name": "synthetic"}, "version": "1.0.0"},
        "panel": {
            "description": PANEL,
            "identity": identity,
            "num_gene_targets": genes,
            "species": "Human",
            "tissue": "Multi",
            "type": {"descriptor": "predesigned"},
        },
        "spec_version": "0.1.0",
        "targets": targets,
    }
    checksum = hashlib.sha256(json.dumps(payload).encode()).hexdigest()
    write_json({"metadata": {"sha256_checksum": checksum, "ui_props": {"visible": True}}, "payload": payload}, path)


def experiment(bundle: Bundle, organ: str, identity: uuid.UUID) -> dict[str, Any]:
    """Return the contents of `experiment.xenium`, keys in the order of XOA 3.

    Parameters
    ----------
    bundle
        The slide.
    organ
        Name of the region.
    identity
        Identifier from which all other identifiers are computed.
    """
    uuids = {name: str(uuid.uuid5(identity, name)) for name in ("analysis", "experiment", "cassette", "roi", "well", "calibration")}
    return {
        "major_version": 5,
        "minor_version": 0,
        "patch_version": 0,
        "run_name": "synthetic",
        "run_start_time": f"{_DATE}Z",
        "region_name": organ,
        "preservation_method": "ffpe",
        **_metrics(bundle),
        "cassette_name": "synthetic",
        "slide_id": "synthetic",
        **_panel(bundle.features),
        "pixel_size": XENIUM_MPP,
        "instrument_sn": "synthetic",
        "instrument_sw_version": "synthetic",
        "analysis_sw_version": "xenium-3.0.0.15",
        **{f"{name}_uuid": uuids[name] for name in ("analysis", "experiment", "cassette", "roi")},
        "z_step_size": 3.0,
        **{f"{name}_uuid": uuids[name] for name in ("well", "calibration")},
        "images": {"morphology_focus_filepath": "morphology_focus/morphology_focus_0000.ome.tif"},
        "xenium_explorer_files": {},
        "segmentation_stain": "",
    }


def _metrics(bundle: Bundle) -> dict[str, Any]:
    table, drawn = cell_table(bundle), bundle.transcripts
    genes = (bundle.features["feature_type"] == "Gene Expression").to_numpy()
    good = (drawn.qv >= GOOD_QV) & genes[drawn.feature]
    area_um2 = bundle.layout.frame_um[0] * bundle.layout.frame_um[1]
    return {
        "num_cells": len(table),
        "transcripts_per_cell": int(table["transcript_counts"].median()),
        "transcripts_per_100um": float(good.sum() / area_um2 * 100),
        "region_area": float(area_um2),
        "total_cell_area": float(table["cell_area"].sum()),
        "thickness_of_high_quality_decoded_transcripts": float(np.ptp(np.percentile(drawn.xyz_um[good, 2], [2.5, 97.5]))),
        "nuclear_transcripts_per_100um": float((good & drawn.in_nucleus).sum() / np.nansum(table["nucleus_area"]) * 100),
        "fraction_transcripts_assigned": float((drawn.cell[good] >= 0).mean()),
        "segmented_cell_stain_frac": 0.0,
        "segmented_cell_boundary_frac": 0.0,
        "segmented_cell_interior_frac": 0.0,
        "segmented_cell_nuc_expansion_frac": 1.0,
        "imported_cell_frac": 0.0,
    }


def _panel(features: pd.DataFrame) -> dict[str, Any]:
    return {
        "panel_type": "predesigned",
        "panel_design_id": "demo_v1",
        "panel_predesigned_id": "hMulti_v1",
        "panel_name": PANEL,
        "panel_organism": "Human",
        "panel_tissue_type": "Multi",
        "panel_num_targets_predesigned": int((features["category"] == "predesigned_gene").sum()),
        "panel_num_targets_custom": int((features["category"] == "custom_gene").sum()),
        "chemistry_version": "v1",
    }
