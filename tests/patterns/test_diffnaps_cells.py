"""The shipped gene expression is that of the cells of pbmc68k_reduced, and holds what its card says."""

import numpy as np
from scipy import sparse

from shared.compendium.paths import DATA
from shared.zoo import describe, load_data


def test_the_cells_are_those_of_the_reduced_set():
    with np.load(DATA / "pbmc68k_genes.npz", allow_pickle=False) as cells:
        parts = cells["data"].astype(np.float32), cells["indices"].astype(int), cells["indptr"]
        expression = sparse.csr_matrix(parts, shape=(len(parts[2]) - 1, len(cells["genes"])))
        labels, names, genes = cells["bulk_labels"], cells["bulk_labels_names"], cells["genes"].tolist()
    reduced = load_data("pbmc68k_reduced")
    assert labels.tolist() == reduced.y.tolist()
    assert names.tolist() == list(reduced.classes)
    tested = {test["what"]: test["measured"] for test in describe("pbmc68k_genes").tested}
    assert (*expression.shape, expression.nnz) == (tested["cells"], tested["genes"], tested["values above zero"])
    marker = {"CD19+ B": "CD79A", "CD14+ Monocyte": "CST3", "CD56+ NK": "NKG7"}
    for kind, gene in marker.items():  # known markers are on in their type, not in the others
        mine = labels == names.tolist().index(kind)
        on = np.asarray((expression[:, genes.index(gene)] > 0).todense()).ravel()
        assert on[mine].mean() > 0.9
        assert on[mine].mean() > on[~mine].mean() + 0.2
