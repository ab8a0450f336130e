"""How neighbourhoods are found."""

from typing import Any, Literal

from pydantic import Field, model_validator

from nuclass_pipeline.config.base import Section


def _steps(values: dict[str, Any]) -> int:
    return 1 if values.get("mode") == "contact" else 2


def _resolution(values: dict[str, Any]) -> float:
    return 0.2 if values.get("mode") == "contact" else 0.4


class DomainsConfig(Section):
    """Spatial domains, or groups of cells at the scale of contact: the mode decides which graph smooths and what Leiden sees."""

    mode: Literal["domain", "contact"] = Field(
        "domain", description="domain: tissue domains, from the hybrid graph; contact: groups of cells, smoothed over touching cells only"
    )
    rank: int = Field(10, ge=2, description="factors")
    contact_um: float = Field(20.0, gt=0, description="cells this near are in contact, µm")
    radius_um: float = Field(80.0, gt=0, description="reach of the hybrid graph, µm (mode domain)")
    contact_weight: float = Field(2.5, ge=1, description="weight of a contact, where any other edge has 1 (mode domain)")
    beta: float = Field(0.6, ge=0, le=1, description="share that a diffusion step takes from a cell's surroundings")
    steps: int = Field(default_factory=_steps, ge=0, description="diffusion steps; if left out, 2 in mode domain and 1 in mode contact")
    alpha: float = Field(0.5, ge=0, le=1, description="weight of place against likeness in the graph that Leiden cuts (mode domain)")
    resolution: float = Field(
        default_factory=_resolution, gt=0, description="Leiden resolution; if left out, 0.4 in mode domain and 0.2 in mode contact"
    )
    neighbors: int = Field(15, ge=2, description="neighbours in the graph of similar factors")
    graph_penalty: float = Field(
        0.0, ge=0, description="0: factorise, then diffuse; above: graph-regularised NMF of this weight instead, 0.03 to start with"
    )
    seed: int = Field(0, ge=0, description="seed of the factors, the neighbours, Leiden and the controls")

    @model_validator(mode="after")
    def _radius_covers_contacts(self) -> "DomainsConfig":
        if self.radius_um < self.contact_um:
            raise ValueError(f"radius_um is {self.radius_um:g}, less than contact_um ({self.contact_um:g})")
        return self
