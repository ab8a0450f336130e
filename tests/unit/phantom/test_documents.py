import json
from pathlib import Path


def test_json_files_have_the_keys_of_real_ones(slides, real_bundle):
    def keys(path: Path) -> list[str]:
        return list(json.loads(path.read_text()))

    def target(path: Path) -> dict:
        return json.loads(path.read_text())["payload"]["targets"][0]

    for name in ("experiment.xenium", "gene_panel.json"):
        assert keys(slides["lung"].outs / name) == keys(real_bundle / name)
    ours, real = (target(folder / "gene_panel.json") for folder in (slides["lung"].outs, real_bundle))
    assert {key: sorted(value) if isinstance(value, dict) else 0 for key, value in ours.items()} == {
        key: sorted(value) if isinstance(value, dict) else 0 for key, value in real.items()
    }
