"""Hold-outs files as the public reference reads them."""

import json

HOLDOUTS = {name: {"root": f"{{root}}/{name}", "mode": "xenium_exact", "tissue": name} for name in ("ovary", "lung", "pancreas")}


def write_holdouts(folder, content):
    """Write the file beside its folders, and return it; `{root}` is the folder."""
    for name in HOLDOUTS:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "annotations.json").write_text("{}")
    (folder / "holdouts.json").write_text(json.dumps(content).replace("{root}", str(folder)))
    return folder / "holdouts.json"
