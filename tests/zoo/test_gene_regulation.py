"""The shipped gene regulation: what its card says, and what its arrays are."""

from shared.zoo import describe, load_data


def test_card_tells_the_truth():
    card, data = describe("gene-regulation"), load_data("gene-regulation").arrays
    assert (data["yeast"] != 0).sum() == card.measured("edges of yeast's network")
    assert data["motif"].sum() == card.measured("motif edges")
    assert data["chip"].sum() == card.measured("ChIP-seq edges")
    assert data["chip_measured"].sum() == card.measured("regulators with ChIP-seq")
    assert len(data["b"]) + len(data["mono"]) == card.measured("samples")
    assert int(data["b_cells"].sum() + data["mono_cells"].sum()) == card.measured("cells")


def test_rows_are_regulators():
    data = load_data("gene-regulation").arrays
    names = ["".join(map(chr, row[row > 0])) for row in data["genes"].numpy()]
    myc = names.index("MYC")
    assert data["chip_measured"][myc]
    assert data["motif"][myc].sum() > 100  # a regulator has targets, whatever regulates it
    for key in ("b", "mono"):
        assert data[key].shape[1:] == (12, len(names))
        assert abs(float(data[key].mean()) - 1) < 0.15  # over each sample's mean
