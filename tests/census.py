"""Counts of the house rules: `python tests/census.py` prints them with their bounds; `test_census.py` holds them.

Functions are counted over the package. Code blocks and words are those of README.md, CONTRIBUTING.md and docs/ without the generated pages.
"""

import ast
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/nuclass_pipeline"
GENERATED = {"configuration.md", "outputs.md"}
ENTRIES = {"BEST", "GROUPED_BY", "draw", "build", "logger", "STAGE_VERSION"}
"""Names that every module of a kind has: figures, tables, loggers, pinned stages. Commands in cli are called as what they run."""
ODD = tuple(
    rf"\b{phrase}\b"
    for phrase in (
        # People for programs.
        "taught", "teach(?:es)?", "learnt", "tells?", "told", "ask(?:s|ed)?", "opinions?", "judg(?:e|es|ed)", "fair judges?",
        "contestants?", "think aloud", "witness(?:es)?", "surest", "attain(?:s|ed)?", "soften",
        # Idioms of another language.
        "is no (?:number|type|class|file)", "hangs? on", "[Mm]end", "sought", "does without", "anew", "read off", "yours to fetch",
        "stands? (?:in|beside|under|for)", "needs? its place", "put the cells elsewhere", "make all genes equal", "that are too many",
        # Old names of things.
        "dealt", "programmes?", "guard bands?", "[Pp]ath (?:local|global)", "(?:un)?mixed cells?",
    )
)  # fmt: skip
"""Phrases that docs, docstrings, comments, descriptions and messages do not use."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def functions() -> Iterator[int]:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (node.end_lineno or 0) - node.lineno + 1


def fullest_folder() -> tuple[int, str]:
    counts: dict[Path, int] = defaultdict(int)
    for path in modules():
        counts[path.parent] += 1
    folder = max(counts, key=lambda name: counts[name])
    return counts[folder], str(folder.relative_to(ROOT))


def repeated_names() -> dict[str, list[str]]:
    """Return the public names that stand in two modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        if path.parent.name == "cli":
            continue
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            names += [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            for name in names:
                if not name.startswith("_") and name not in ENTRIES:
                    places[name].append(str(path.relative_to(PACKAGE)))
    return {name: where for name, where in places.items() if len(where) > 1}


def comment_share() -> float:
    lines = [line.strip() for path in modules() for line in path.read_text().splitlines() if line.strip()]
    comments = [line for line in lines if line.startswith("#") or re.search(r"\s{2}# (?!noqa|type:|pragma|fmt:)", line)]
    return len([line for line in comments if not re.match(r"# (noqa|type:|pragma|fmt:)", line)]) / len(lines)


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(path for path in sorted(ROOT.glob("docs/*.md")) if path.name not in GENERATED)]


def blocks_per_1000_words() -> float:
    text = "\n".join(path.read_text() for path in pages())
    blocks = re.findall(r"^```", text, flags=re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return 1000 * (len(blocks) / 2) / len(prose.split())


def texts() -> Iterator[tuple[str, str]]:
    """Yield (place, text) of all prose: pages outside code blocks, docstrings, comments, and the other string literals of the package."""
    for path in [*pages(), ROOT / "CHANGELOG.md", *sorted(ROOT.glob("workflow/report/*.rst"))]:
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        yield str(path.relative_to(ROOT)), re.sub(r"`[^`\n]*`", "", text)
    for path in [*modules(), *sorted(ROOT.glob("workflow/scripts/*.py"))]:
        place = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield f"{place}:{node.lineno}", re.sub(r"`[^`\n]*`", "", node.value)
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if line.strip().startswith("# "):
                yield f"{place}:{number}", line
    for path in [ROOT / "Snakefile", *sorted(ROOT.glob("workflow/rules/*.smk"))]:
        yield str(path.relative_to(ROOT)), "\n".join(re.findall(r'"""(.*?)"""', path.read_text(), re.DOTALL))
        yield str(path.relative_to(ROOT)), "\n".join(re.findall(r'message:\s+f?"(.*?)"', path.read_text()))


def odd_phrases() -> list[str]:
    found = []
    for place, text in texts():
        found += [f"{place}: {match.group(0)!r} in {text[max(0, match.start() - 40) : match.end() + 30].strip()!r}"
                  for odd in ODD for match in re.finditer(odd, text)]  # fmt: skip
    return found


VERBS = set(
    """
    Accept Add Append Assign Average Bend Blend Build Change Check Choose Classify Close Cluster Combine Compare Compute
    Convert Count Create Cut Describe Divide Download Draw Drop Encode Estimate Expand Fill Find Fit Flip Freeze Import Join
    Keep Label Limit Link List Load Log Map Minimise Move Normalise Open Pack Partition Place Prepare Print Propose Raise
    Rank Read Rebuild Receive Recompute Remove Render Replace Report Request Resample Reserve Reshape Resize Restore Return
    Run Save Scale Score Seed Segment Select Set Simulate Smooth Sort Split Start Sum Test Train Turn Unpack Write Yield
    """.split()  # noqa: SIM905
)
"""Verbs that the docstring of a function may begin with; properties and classes begin with a noun."""


def docstrings() -> Iterator[tuple[str, str]]:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", text


def dull_docstrings() -> list[str]:
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                is_property = any(getattr(decorator, "id", "") in {"property", "cached_property"} for decorator in node.decorator_list)
                if not is_property and text.split()[0].rstrip(".,:") not in VERBS:
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}: {text.split()[0]}")
    return found


def census() -> list[tuple[str, float, str, bool]]:
    """Return name, value, bound and whether it holds."""
    lengths = sorted(functions())
    p90 = lengths[int(len(lengths) * 0.9)]
    most, folder = fullest_folder()
    longest = max(len(path.read_text().splitlines()) for path in modules())
    repeated, odd, dull = repeated_names(), odd_phrases(), dull_docstrings()
    comments, blocks = comment_share(), blocks_per_1000_words()
    return [
        (f"modules in the fullest folder ({folder})", most, "<= 14", most <= 14),
        ("lines of the longest module", longest, "<= 300", longest <= 300),
        ("lines of a function, median", statistics.median(lengths), "<= 8", statistics.median(lengths) <= 8),
        ("lines of a function, 90th percentile", p90, "<= 24", p90 <= 24),
        ("lines of the longest function", lengths[-1], "<= 60", lengths[-1] <= 60),
        (f"public names in two modules {sorted(repeated)}", len(repeated), "== 0", not repeated),
        ("comments, % of lines", round(100 * comments, 2), ">= 1.5", comments >= 0.015),
        ("code blocks per 1,000 words of the pages", round(blocks, 1), ">= 8", blocks >= 8),
        ("odd phrases", len(odd), "== 0", not odd),
        ("docstrings that begin with another word than a verb of the list", len(dull), "== 0", not dull),
    ]


def main() -> None:
    rows = census()
    for name, value, bound, holds in rows:
        print(f"{'ok ' if holds else 'NO '} {value:>8} {bound:8} {name}")
    raise SystemExit(not all(row[3] for row in rows))


if __name__ == "__main__":
    main()
