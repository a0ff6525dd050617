"""The shipped gene expression is that of the cells of pbmc68k_reduced, and holds what its card says."""

from shared.zoo import describe, load_data


def test_the_cells_are_those_of_the_reduced_set():
    cells, reduced = load_data("pbmc68k_genes"), load_data("pbmc68k_reduced")
    assert cells.y.tolist() == reduced.y.tolist()
    assert cells.classes == reduced.classes
    card = describe("pbmc68k_genes")
    assert cells.x.shape == (card.measured("cells"), card.measured("genes"))
    assert int((cells.x > 0).sum()) == card.measured("values above zero")
    marker = {"CD19+ B": "CD79A", "CD14+ Monocyte": "CST3", "CD56+ NK": "NKG7"}
    for kind, gene in marker.items():  # known markers are on in their type, not in the others
        mine = cells.y == cells.classes.index(kind)
        on = (cells.x[:, cells.features.index(gene)] > 0).double()
        assert on[mine].mean() > 0.9
        assert on[mine].mean() > on[~mine].mean() + 0.2
