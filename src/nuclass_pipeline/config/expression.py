"""Expression: clusters, spatial domains, gene programs."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nuclass_pipeline.config.base import OptionalPath, Section, Seed

RAPIDS_REMEDY = "Install rapids-singlecell on a machine with an NVIDIA GPU, or set clustering.backend to scanpy."


class ClusteringConfig(Section):
    """Expression clusters."""

    min_transcripts: int = Field(10, ge=0, description="a cell with fewer gene transcripts fails quality control")
    components: int = Field(30, ge=2, description="principal components")
    neighbors: int = Field(15, ge=2, description="neighbours in the expression graph")
    resolutions: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.4, 0.6, 0.8, 1.0), min_length=1, description="Leiden resolutions; the most stable one is used"
    )
    repeats: int = Field(3, ge=2, description="seeds whose agreement is the stability of a resolution")
    backend: Literal["scanpy", "rapids"] = Field(
        "scanpy", description="library for neighbours and UMAP; rapids needs rapids-singlecell and a GPU"
    )
    markers_per_cluster: int = Field(30, ge=1, description="markers kept per cluster")
    seed: Seed = Field(0, description="seed of PCA, neighbours, Leiden and the map")


def _steps(values: dict[str, Any]) -> int:
    return 1 if values.get("mode") == "contact" else 2


def _resolution(values: dict[str, Any]) -> float:
    return 0.2 if values.get("mode") == "contact" else 0.4


class DomainsConfig(Section):
    """Spatial domains, or groups of cells in contact: the mode selects the graph that smooths the factors and the graph for Leiden."""

    mode: Literal["domain", "contact"] = Field(
        "domain", description="domain: tissue domains, from the hybrid graph; contact: groups of cells, smoothed over touching cells only"
    )
    rank: int = Field(10, ge=2, description="factors")
    contact_um: float = Field(20.0, gt=0, description="cells at most this far apart are in contact, µm")
    radius_um: float = Field(80.0, gt=0, description="reach of the hybrid graph, µm (mode domain)")
    contact_weight: float = Field(2.5, ge=1, description="weight of a contact, where any other edge has 1 (mode domain)")
    beta: float = Field(0.6, ge=0, le=1, description="share of a cell's factors that a diffusion step takes from its neighbours")
    steps: int = Field(default_factory=_steps, ge=0, description="diffusion steps; if left out, 2 in mode domain and 1 in mode contact")
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the spatial graph against the factor graph in Leiden (mode domain)")
    resolution: float = Field(
        default_factory=_resolution, gt=0, description="Leiden resolution; if left out, 0.4 in mode domain and 0.2 in mode contact"
    )
    neighbors: int = Field(15, ge=2, description="neighbours in the graph of similar factors")
    graph_penalty: float = Field(
        0.0, ge=0, description="0: factorise, then diffuse; above: graph-regularised NMF of this weight instead, 0.03 to start with"
    )
    seed: Seed = Field(0, description="seed of the factors, the neighbours, Leiden and the controls")

    @model_validator(mode="after")
    def _radius_covers_contacts(self) -> "DomainsConfig":
        if self.radius_um < self.contact_um:
            raise ValueError(f"radius_um is {self.radius_um:g}, less than contact_um ({self.contact_um:g})")
        return self


GMT_SUFFIXES = (".gmt", ".gmt.gz")
GAF_SUFFIXES = (".gaf", ".gaf.gz")
GO_DOWNLOADS = "http://current.geneontology.org/{annotations/goa_human.gaf.gz,ontology/go-basic.obo,ontology/subsets/goslim_generic.obo}"


class ProgramsConfig(Section):
    """Gene programs of clusters; without a library none are computed."""

    library: OptionalPath = Field(None, description="gene sets: a GMT file, or GO annotations as GAF 2.x; either may be gzipped")
    ontology: OptionalPath = Field(None, description="go-basic.obo: needed by a GAF library and by the slim")
    slim: OptionalPath = Field(None, description="GO slim in OBO format: programs take its names")
    method: Literal["ranked", "ora"] = Field("ranked", description="enrichment of the whole ranked panel, or of the markers alone")
    fdr: float = Field(0.05, gt=0, lt=1, description="highest Benjamini–Hochberg q over all eligible sets")
    min_size: int = Field(5, ge=2, description="fewest genes of a set on the panel")
    max_size: int = Field(200, ge=2, description="most genes of a set on the panel")
    min_overlap: int = Field(3, ge=1, description="fewest genes of the cluster that carry a program")
    permutations: int = Field(20000, ge=1000, description="least number of random sets per set size (ranked)")
    seed: Seed = Field(0, description="seed of the random sets")
    most: int = Field(8, ge=1, description="programs kept per cluster")

    @model_validator(mode="after")
    def _library_can_be_read(self) -> "ProgramsConfig":
        if self.library and not self.library.endswith(GMT_SUFFIXES + GAF_SUFFIXES):
            raise ValueError(f"library {self.library!r} ends with none of {', '.join(GMT_SUFFIXES + GAF_SUFFIXES)}")
        if self.library and self.library.endswith(GAF_SUFFIXES) and not self.ontology:
            raise ValueError("a GAF library needs the ontology: download http://current.geneontology.org/ontology/go-basic.obo")
        if self.max_size < self.min_size:
            raise ValueError(f"max_size {self.max_size} is below min_size {self.min_size}")
        return self
