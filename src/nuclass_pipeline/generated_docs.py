"""Pages written from the code, so that they cannot drift: configuration, outputs, and the schema for editors."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nuclass_pipeline.config import Config
from nuclass_pipeline.provenance import code_hash, code_version
from nuclass_pipeline.schemas import TABLES

PINNED = ("train.features", "train.global_", "train.local")
NOTE = "<!-- Written by `make docs` from the code; edit the descriptions there. -->"


def pages() -> dict[str, str]:
    """Return path → text of every generated page."""
    return {
        "config/schema.json": json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n",
        "docs/configuration.md": _configuration(),
        "docs/outputs.md": _outputs(),
        "tests/expected/stages.tsv": _stages(),
    }


def _configuration() -> str:
    lines = ["# Configuration", NOTE, "", "Keys of a run file. Values left out take the default, which is the paper's.", ""]
    return "\n".join([*lines, *_section("", Config)]) + "\n"


def _section(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    yield from (f"## {prefix.removesuffix('.') or 'Top level'}", "", "| key | default | meaning |", "|---|---|---|")
    nested: list[tuple[str, type[BaseModel]]] = []
    for name, info in model.model_fields.items():
        key = f"{prefix}{info.alias or name}"
        section = info.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            nested.append((f"{key}.", section))
            yield f"| `{key}` | | section below |"
        else:
            yield f"| `{key}` | {_default(info)} | {info.description or ''} |"
    yield ""
    for inner, section in nested:
        yield from _section(inner, section)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value: Any = info.get_default(call_default_factory=True, validated_data={})
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _stages() -> str:
    """List the pinned stages with the code their version stands for: when the hash moves, somebody has to decide."""
    return "".join(f"{module}\t{code_version(module)}\t{code_hash(module)}\n" for module in PINNED)


def _outputs() -> str:
    lines = ["# Outputs", NOTE, "", TREE, ""]
    for table in TABLES:
        lines += [f"## {table.name}", "", "| column | kind | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {c.kind}{', may be empty' if c.optional else ''} | {c.meaning} |" for c in table.columns]
        lines += ([f"\nFurther columns: {table.extra}."] if table.extra else []) + [""]
    return "\n".join(lines) + "\n"


TREE = """```
results/<run>/
  config.yaml manifest.json                 the run file as checked; versions, commit, machine, hashes of the inputs
  slides/<slide>/
    cells.parquet counts.h5ad               cells, and gene counts in the same order
    registration.json image.h5              where the H&E lies; the H&E at the target pixel size
    clusters.parquet markers.parquet        expression clusters and their markers
    clustering.json                         the resolutions tried, and how stable each was
    domains.parquet domain_scores.parquet   neighbourhoods, and how distinct they are
    labels.parquet split.parquet            label or Unresolved per cell; part per cell
    nuclei.parquet nuclei.png               of an H&E without Xenium: outlines of its nuclei, and a picture of them
    proposals.tsv                           a label proposed for each cluster with its evidence, for review
    ablation.parquet                        by `snakemake ablation`: proposals with less evidence and by other annotators
    label_report.pdf label_report.png       maps, markers, composition and abstentions of the labels
    patches_224x224.h5 patches_1024x1024.h5 annotations.json
    features/<encoder>.1024.h5              context features of a frozen encoder
    features/paths.seed-<n>.h5              both paths' features and probabilities
  models/<model>/seed-<n>/{best.ckpt, history.parquet}
  predictions/<model>/seed-<n>/<slide>.parquet
  metrics/*.parquet                         tidy scores; with predictions/ enough to redraw everything
  figures/*.pdf *.png   tables/*.tsv *.tex   report.html
```"""
