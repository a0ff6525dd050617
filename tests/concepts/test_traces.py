"""Concept traces: sums that are exact, C² against loops, what is refused."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from shared.concepts import concept_consistency, pooled_features, trace_concepts, trace_inputs
from shared.nets import AddInverse, SmallBcos, explanation_mode, linear_map
from shared.sae import SAEConfig, SparseDict

LAYER = "features.0"
TARGET = torch.tensor([0, 1, 2])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallBcos(1, 3, widths=(4, 6), strides=(2, 1)).double().eval()


def dictionary(biases=False, k=3):
    sae = SparseDict(SAEConfig("topk", 4, 12, k=k, biases=biases), generator=torch.Generator().manual_seed(0)).double()
    if biases:
        sae.b_enc.data += 0.1
        sae.b_dec.data += 0.1
    return sae


def images():
    return AddInverse()(normal(3, 1, 8, 8).sigmoid())


def trace(sae):
    return trace_concepts(network(), LAYER, sae, images(), TARGET, channel_axis=1)


def test_contributions_add_up_to_the_logit():
    found, net = trace(dictionary()), network()
    logit = found.logits.gather(1, TARGET[:, None]).squeeze(1) - net.bias
    assert torch.allclose(found.contributions.sum(1), logit, atol=1e-12)
    assert (found.logits - net(images())).abs().max() > 1e-3  # the reconstruction is another input of what follows


def test_biases_leave_a_rest():
    found = trace(dictionary(biases=True))
    logit = found.logits.gather(1, TARGET[:, None]).squeeze(1) - network().bias
    assert ((found.contributions.sum(1) - logit).abs() > 0.1 * logit.abs()).all()


def test_contributions_from_the_equation():
    net, sae = network(), dictionary()
    head = torch.nn.Sequential(net.features[1], net.classifier)
    with explanation_mode(net):
        codes = sae.encode(net.features[0](images()).movedim(1, -1)).detach().requires_grad_()
        logits = head(sae.decode(codes).movedim(-1, 1)).mean((2, 3))
        (slope,) = torch.autograd.grad(logits.gather(1, TARGET[:, None]).sum(), codes)
    found = trace(sae)
    assert torch.allclose(found.contributions, (codes * slope).sum((1, 2)), atol=1e-12)
    assert torch.allclose(found.presence, codes.sum((1, 2)))
    assert not found.contributions.requires_grad


def test_input_shares_add_up_to_presence():
    sae = dictionary()
    found = trace(sae)
    for concept in found.presence.argmax(1).unique():
        shares = trace_inputs(network(), LAYER, sae, images(), concept.expand(3), channel_axis=1)
        assert torch.allclose(shares.flatten(1).sum(1), found.presence[:, concept], atol=1e-12)


def test_a_dictionary_that_keeps_all_traces_what_the_network_maps():
    """W_enc = [I, -I]: U = [F+, F-]; the codes' gradients carried on to the input are the network's own map."""
    net, sae = network(), SparseDict(SAEConfig("standard", 4, 8, biases=False)).double()
    sae.W_dec.data = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    sae.W_enc.data = sae.W_dec.data.T.clone()
    found = trace(sae)
    assert torch.allclose(found.logits, net(images()), atol=1e-12)
    whole = (linear_map(net, images(), TARGET) * images()).flatten(1).sum(1)
    assert torch.allclose(found.contributions.sum(1), whole, atol=1e-12)


def test_consistency_from_loops():
    encodings, presence = normal(2, 5, 4), normal(2, 5, seed=1).abs()
    presence[0, 3] = 0
    encodings[0, 3] = torch.nan
    for k in range(2):
        total = weight = 0.0
        for i in range(5):
            for j in range(5):
                if i != j and presence[k, i] > 0 and presence[k, j] > 0:
                    pair = presence[k, i] * presence[k, j]
                    total = total + pair * cosine_similarity(encodings[k, i], encodings[k, j], dim=0)
                    weight = weight + pair
        assert torch.allclose(concept_consistency(encodings, presence)[k], total / weight)


def test_consistency_of_known_cases():
    one = normal(1, 1, 4).expand(1, 3, 4)
    assert torch.allclose(concept_consistency(one, torch.ones(1, 3).double()), torch.ones(1).double())
    assert concept_consistency(one, torch.tensor([[1.0, 0, 0]])).isnan().all()
    opposite = torch.stack([one[0, 0], -one[0, 0]])[None]
    assert torch.allclose(concept_consistency(opposite, torch.ones(1, 2).double()), -torch.ones(1).double())


def test_features_are_pooled_where_maps_are_positive():
    maps, features = normal(2, 3, 3), normal(2, 5, 3, 3)
    maps[1] = -1
    found = pooled_features(maps, features)
    weight = maps[0].clamp_min(0)
    assert torch.allclose(found[0], (weight * features[0]).sum((1, 2)) / weight.sum())
    assert found[1].isnan().all()


def test_what_is_wrong_is_said():
    net, sae, x = network(), dictionary(), images()
    with pytest.raises(ValueError, match="concept must be"):
        trace_inputs(net, LAYER, sae, x, torch.tensor([0, 1, 12]), channel_axis=1)
    with pytest.raises(ValueError, match="4 wide"):
        trace_concepts(net, "features.1", sae, x, TARGET, channel_axis=1)
    with pytest.raises(ValueError, match="no B-cos layer"):
        trace_concepts(torch.nn.Sequential(torch.nn.Linear(4, 4)).double().eval(), "0", sae, normal(3, 4), TARGET)
    with pytest.raises(ValueError, match="training"):
        trace_concepts(net.train(), LAYER, sae, x, TARGET, channel_axis=1)
