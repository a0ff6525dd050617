"""Names by the definition, concept by concept, and what must not change them."""

import pytest
import torch
from torch.nn.functional import normalize

from shared.concepts import NAMELESS, NAMING_METHODS, Cooccurrence, Vocabulary, concept_vectors, name_concepts
from tests.concepts.cases import codes, dictionary, family, rng


def parts(f):
    pass_ = Cooccurrence(f.shape[-1]).update(f)
    return {"mean_codes": pass_.top_patches().mean_codes(), "strength": pass_.relations().conditional()}


def one_by_one(sae, mean_codes, strength, method, tau, scale):
    """The vectors from the definition."""
    d, rows = len(sae.W_dec), []
    alive = [i for i in range(d) if mean_codes[i, i] > 0]
    length = sum(mean_codes[i].norm() for i in alive) / len(alive)
    for i in range(d):
        if i not in alive:
            rows.append(torch.zeros_like(sae.b_dec))
            continue
        u = torch.zeros(d)
        for j in range(d):
            share = 1.0 if j == i else float(strength[i, j])
            if j == i or (method != "own" and share > tau):
                u[j] = (1.0 if method == "family_binary" else share) * mean_codes[i, j]
        u = u / u.norm() * scale * length
        x = u @ sae.W_dec + sae.b_dec
        rows.append(x / x.norm())
    return torch.stack(rows)


@pytest.mark.parametrize(("method", "scale"), [("family", 1.33), ("family_binary", 1.0), ("own", 1.33)])
def test_vectors_by_their_definition(method, scale):
    sae, given = dictionary(), parts(codes(share=0.4))
    found = concept_vectors(sae.W_dec, sae.b_dec, method=method, tau=0.4, **given)
    want = one_by_one(sae, given["mean_codes"], given["strength"], method, 0.4, scale)
    assert torch.allclose(found, want, atol=1e-5)
    assert not found[-1].any()  # dead
    other = concept_vectors(sae.W_dec, sae.b_dec, method=method, tau=0.4, scale=0.5, **given)
    assert torch.allclose(other, one_by_one(sae, given["mean_codes"], given["strength"], method, 0.4, 0.5), atol=1e-5)


def test_methods_differ_and_decoder_rows_need_no_codes():
    sae, given = dictionary(), parts(codes(share=0.4))
    found = [concept_vectors(sae.W_dec, sae.b_dec, method=m, tau=0.4, **given) for m in NAMING_METHODS]
    for i, one in enumerate(found):
        assert all(not torch.allclose(one, other, atol=1e-3) for other in found[:i])
    assert torch.allclose(concept_vectors(sae.W_dec, sae.b_dec, method="decoder"), normalize(sae.W_dec, dim=1))
    want = normalize(sae.W_dec + sae.b_dec, dim=1)
    assert torch.allclose(concept_vectors(sae.W_dec, sae.b_dec, method="decoder_bias"), want)


def test_a_child_is_named_together_with_its_parent():
    sae = dictionary(d_in=6, d_sae=6)
    sae.b_dec.zero_()
    sae.W_dec.copy_(torch.eye(6))
    words = ("parent", "child", "parent with child")
    both = normalize(torch.tensor([[1.0, 1, 0, 0, 0, 0]]), dim=1)
    vocabulary = Vocabulary(words, torch.cat([torch.eye(6)[:2], both]))
    f = family()[:, [0, 1, 2, 4, 5, 5]]
    named = {
        m: name_concepts(concept_vectors(sae.W_dec, sae.b_dec, method=m, **parts(f)), vocabulary)
        for m in NAMING_METHODS
    }
    assert named["own"][1] == named["decoder"][1] == "child"
    assert named["family"][1] == named["family_binary"][1] == "parent with child"
    assert named["family"][0] == "parent"


def test_permuting_latents_permutes_names():
    sae, f, order = dictionary(), codes(share=0.4), torch.randperm(12, generator=rng(5))
    vocabulary = Vocabulary([f"w{i}" for i in range(50)], torch.randn(50, 8, generator=rng(6)))
    one = name_concepts(concept_vectors(sae.W_dec, sae.b_dec, tau=0.4, **parts(f)), vocabulary)
    there = concept_vectors(sae.W_dec[order], sae.b_dec, tau=0.4, **parts(f[:, order]))
    other = name_concepts(there, vocabulary)
    assert other.words == tuple(one.words[i] for i in order.tolist())
    assert len(set(one.words)) > 5


# --- vocabularies -----------------------------------------------------------------------------------------------
def test_the_best_single_entry_of_all_vocabularies_and_families():
    vectors = normalize(torch.randn(9, 8, generator=rng(1)), dim=1)
    vectors[4] = 0
    big = Vocabulary(
        [f"a{i}" for i in range(30)], torch.randn(3, 30, 8, generator=rng(2)), ("noun", "adjective", "verb")
    )
    small = Vocabulary(["b0", "b1"], torch.randn(2, 8, generator=rng(3)))
    found = name_concepts(vectors, [big, small])
    for i, vector in enumerate(vectors):
        options = {
            (v, k, e): float(torch.cosine_similarity(vector, row, dim=0))
            for v, vocabulary in enumerate((big, small))
            for k, family in enumerate(vocabulary.embeddings)
            for e, row in enumerate(family)
        }
        if i == 4:
            assert found[i] == NAMELESS
            assert int(found.vocabulary[i]) == int(found.entry[i]) == -1
            continue
        best = max(options, key=options.get)
        assert (int(found.vocabulary[i]), int(found.family[i]), int(found.entry[i])) == best
        assert float(found.scores[i]) == pytest.approx(options[best], abs=1e-6)
        assert found[i] == (big, small)[best[0]].words[best[2]]
    assert len(set(found.family.tolist())) == 4


def test_large_vocabularies_are_searched_in_parts(monkeypatch):
    vectors, embeddings = torch.randn(9, 8, generator=rng(1)), torch.randn(100, 8, generator=rng(2))
    vocabulary = Vocabulary([str(i) for i in range(100)], embeddings)
    whole = name_concepts(vectors, vocabulary)
    monkeypatch.setattr("shared.concepts._naming._CHUNK", 9 * 7)
    parts = name_concepts(vectors, vocabulary)
    assert whole.words == parts.words
    assert torch.allclose(whole.scores, parts.scores)
    assert torch.equal(whole.entry, parts.entry)


def test_lengths_of_embeddings_do_not_matter():
    vectors, embeddings = torch.randn(20, 8, generator=rng(1)), torch.randn(40, 8, generator=rng(2))
    lengths = 0.1 + 10 * torch.rand(40, 1, generator=rng(3))
    words = [str(i) for i in range(40)]
    one, other = (name_concepts(vectors, Vocabulary(words, e)) for e in (embeddings, embeddings * lengths))
    assert one.words == other.words
    raw = (vectors @ (embeddings * lengths).T).argmax(1)  # without normalisation the longest win
    assert (raw != one.entry).any()


VECTORS = torch.randn(4, 8, generator=rng(0))
ROWS = {"W_dec": torch.randn(4, 8, generator=rng(1)), "b_dec": torch.zeros(8)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vocabulary([], torch.zeros(0, 8)), "an empty vocabulary names nothing"),
        (lambda: Vocabulary("cat", torch.zeros(3, 8)), "words='cat' must be a list"),
        (lambda: Vocabulary(["a"], torch.ones(2, 8)), r"embeddings has shape \(1, 2, 8\)"),
        (lambda: Vocabulary(["a"], torch.full((1, 8), torch.inf)), "embeddings has 8 NaN or infinite"),
        (lambda: name_concepts(VECTORS, []), "vocabularies is empty"),
        (lambda: name_concepts(VECTORS, Vocabulary(["a"], torch.ones(1, 7))), "are 7 wide; vectors are 8 wide"),
        (lambda: name_concepts(VECTORS[0], Vocabulary(["a"], torch.ones(1, 8))), "vectors has shape"),
        (lambda: concept_vectors(**ROWS, method="mean"), "method='mean' is unknown"),
        (lambda: concept_vectors(**ROWS), "method='family' needs mean_codes"),
        (lambda: concept_vectors(**ROWS, mean_codes=torch.eye(4)), "method='family' needs strength"),
        (lambda: concept_vectors(**ROWS, method="own", mean_codes=torch.eye(5)), r"mean_codes has shape \(5, 5\)"),
        (lambda: concept_vectors(ROWS["W_dec"], torch.zeros(7), method="decoder"), "b_dec has shape"),
        (lambda: concept_vectors(**ROWS, method="own", mean_codes=torch.eye(4), scale=-1), "scale=-1 is out of range"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
