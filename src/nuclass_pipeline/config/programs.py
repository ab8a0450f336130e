"""What clusters do: gene sets, and when one of them is reliable enough to be named."""

from typing import Literal

from pydantic import Field, model_validator

from nuclass_pipeline.config.base import Section

GMT_SUFFIXES = (".gmt", ".gmt.gz")
GAF_SUFFIXES = (".gaf", ".gaf.gz")
GO_DOWNLOADS = "http://current.geneontology.org/{annotations/goa_human.gaf.gz,ontology/go-basic.obo,ontology/subsets/goslim_generic.obo}"


class ProgramsConfig(Section):
    """Functional programmes of clusters; none are sought without a library."""

    library: str | None = Field(None, description="gene sets: a GMT file, or GO annotations as GAF 2.x; either may be gzipped")
    ontology: str | None = Field(None, description="go-basic.obo: needed by a GAF library and by the slim")
    slim: str | None = Field(None, description="GO slim in OBO format: programmes take its names")
    method: Literal["ranked", "ora"] = Field("ranked", description="enrichment of the whole ranked panel, or of the markers alone")
    fdr: float = Field(0.05, gt=0, lt=1, description="highest Benjamini–Hochberg q over all eligible sets")
    min_size: int = Field(5, ge=2, description="fewest genes of a set on the panel")
    max_size: int = Field(200, ge=2, description="most genes of a set on the panel")
    min_overlap: int = Field(3, ge=1, description="fewest genes of the cluster that carry a programme")
    permutations: int = Field(20000, ge=1000, description="least number of random sets per set size (ranked)")
    seed: int = Field(0, ge=0, description="seed of the random sets")
    most: int = Field(8, ge=1, description="programmes kept per cluster")

    @model_validator(mode="after")
    def _library_can_be_read(self) -> "ProgramsConfig":
        if self.library and not self.library.endswith(GMT_SUFFIXES + GAF_SUFFIXES):
            raise ValueError(f"library {self.library!r} ends with none of {', '.join(GMT_SUFFIXES + GAF_SUFFIXES)}")
        if self.library and self.library.endswith(GAF_SUFFIXES) and not self.ontology:
            raise ValueError("a GAF library needs the ontology: download http://current.geneontology.org/ontology/go-basic.obo")
        if self.max_size < self.min_size:
            raise ValueError(f"max_size {self.max_size} is below min_size {self.min_size}")
        return self
