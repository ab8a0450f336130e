"""Pages written from the code, so that they cannot drift: configuration, outputs, backbones, and the schema for editors."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nuclass_pipeline.config.backbones.section import describe_backbones
from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.layout import RESULTS, TARGETS
from nuclass_pipeline.provenance import code_hash, code_version
from nuclass_pipeline.schemas import TABLES
from nuclass_pipeline.vocabulary import ORGANS, OTHER_ORGAN

PINNED = ("train.features.cells", "train.features.windows", "train.global_", "train.local")
NOTE = "<!-- Written by `make docs` from the code; edit the descriptions there. -->"


def pages(root: Path = Path()) -> dict[str, str]:
    """Return path → text of every generated page, and of every page with a generated part, of the project in `root`."""
    return {
        "config/schema.json": json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n",
        "docs/configuration.md": _configuration(),
        "docs/outputs.md": _outputs(),
        "docs/backbones.md": _filled(root / "docs/backbones.md", "backbones", _backbones()),
        "docs/data.md": _filled(root / "docs/data.md", "organs", f"Organs: {', '.join(ORGANS)}; {OTHER_ORGAN} for slides without Xenium."),
        "tests/expected/stages.tsv": _stages(),
    }


def _filled(page: Path, name: str, text: str) -> str:
    """Return a page with `text` between its comments `<!-- name -->` and `<!-- end -->`."""
    before, start, rest = page.read_text().partition(f"<!-- {name}: written by `make docs` -->")
    _, end, after = rest.partition("<!-- end -->")
    return f"{before}{start}\n{text}\n{end}{after}"


def _linked(row: dict[str, Any]) -> str:
    name = f"`{row['name']}`"
    return f"[{name}]({row['source']})" if row["source"].startswith("https://") else name


def _backbones() -> str:
    head = ["| name | vector | window, px | features | licence | MB | revision |", "|---|---|---|---|---|---|---|"]
    keys = ("dim", "field_px", "features", "licence", "size_mb", "revision")
    rows = [f"| {_linked(row)} | {' | '.join(str(row[key] or '') for key in keys)} |" for row in describe_backbones()]
    return "\n".join([*head, *rows])


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
    """List the pinned stages with version and code hash: when a hash changes, someone has to decide whether results do."""
    return "".join(f"{module}\t{code_version(module)}\t{code_hash(module)}\n" for module in PINNED)


def _targets() -> Iterator[str]:
    yield from ("## Targets", "", "```", ".venv/bin/snakemake --cores 2 figures", "```", "", "| target | what it makes |", "|---|---|")
    yield from (f"| `{name}` | {meaning} |" for name, meaning in TARGETS.items())


def _files() -> Iterator[str]:
    yield from (
        "```python",
        "import nuclass_pipeline",
        "",
        'nuclass_pipeline.open_run("results/demo").path("labels", slide="demo-lung-1")',
        "```",
        "",
    )
    shared = "With `slides_from`, the files directly in `slides/{slide}/` lie below the folder of the run named there."
    yield from (f"All files lie below `results/<run>/`. {shared}", "", "| name | file | what it holds |", "|---|---|---|")
    yield from (f"| `{name}` | `{file.path}` | {file.meaning} |" for name, file in RESULTS.items())


def _outputs() -> str:
    lines = ["# Outputs", NOTE, "", *_files(), "", *_targets(), ""]
    for table in TABLES:
        lines += [f"## {table.name}", "", "| column | kind | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {c.kind}{', may be empty' if c.optional else ''} | {c.meaning} |" for c in table.columns]
        lines += ([f"\nFurther columns: {table.extra}."] if table.extra else []) + [""]
    return "\n".join(lines) + "\n"
