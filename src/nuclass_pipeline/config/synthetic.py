"""The demo cohort."""

from pydantic import Field

from nuclass_pipeline.config.base import Section, Seed


class SyntheticConfig(Section):
    """Tissue phantoms written as Xenium bundles; one seed per slide of kind `synthetic`."""

    seeds: dict[str, Seed] = Field(default_factory=dict, description="slide: seed of its layout, stain and cell mix")
    cells: int = Field(2500, ge=100, le=1_000_000, description="cells per slide")
    cells_per_mm2: float = Field(5000, ge=10, le=1_000_000, description="cell density, 1/mm²")
    transcripts_per_cell: float = Field(150, ge=1, le=100_000, description="median transcripts of a cell")
    aspect: float = Field(2.0, ge=0.1, le=10, description="width / height of the tissue")
    he_mpp: float = Field(0.2738, ge=0.05, le=10, description="H&E pixel size, µm")
    rotation_deg: float = Field(91.5, ge=-360, le=360, description="rotation of the H&E against the Xenium image, degrees")
    poor_fraction: float = Field(0.04, ge=0, lt=1, description="share of cells with too few transcripts to be labelled")
    diffusion_um: float = Field(3.0, ge=0, le=100, description="standard deviation of transcript diffusion, µm")
    low_quality_fraction: float = Field(0.12, ge=0, lt=1, description="share of transcripts with qv < 20")
