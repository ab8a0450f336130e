import numpy as np

from nuclass_pipeline.phantom.programs import read_phantom_panel, read_programs


def test_markers_recover_the_classes(slide):
    programs, genes = read_programs(), [gene["gene"] for gene in read_phantom_panel()]
    truth, counts = slide.truth, slide.matrix[: len(genes)].T.toarray().astype(float)
    logged = np.log1p(100 * counts / np.maximum(counts.sum(1, keepdims=True), 1))
    logged = (logged - logged.mean(0)) / (logged.std(0) + 1e-9)
    classes = sorted(set(truth["label"]))
    own = [[genes.index(gene) for gene in programs[name] if sum(gene in programs[one] for one in classes) == 1] for name in classes]
    assert min(map(len, own)) >= 6
    best = np.array(classes)[np.argmax([logged[:, columns].mean(1) for columns in own], axis=0)]
    assert (best == truth["label"])[~truth["poor"]].mean() > 0.92
