"""Runs with some edges corrupted: identities with the model's own runs, and slow runs written out."""

import copy
import itertools

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from shared import hooks
from shared.circuits import Circuit, EdgeGraph, edge_scores, faithfulness_curve, patched_logits, prune_edges

SIZES = {"hidden_size": 12, "intermediate_size": 20, "num_attention_heads": 3}
PICTURE = {"image_size": 4, "patch_size": 2, "num_channels": 1}


def roughened(model):
    """Weights and biases large enough for every part to matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def vit(n_layers=2, attention="sdpa"):
    config = ViTConfig(**SIZES, **PICTURE, num_hidden_layers=n_layers, num_labels=4, attn_implementation=attention)
    torch.manual_seed(0)
    return roughened(ViTForImageClassification(config))


def clip():
    torch.manual_seed(0)
    config = CLIPVisionConfig(**SIZES, **PICTURE, num_hidden_layers=2, projection_dim=4)
    return roughened(CLIPVisionModelWithProjection(config))


def llama():
    torch.manual_seed(0)
    sizes = {**SIZES, "num_attention_heads": 4, "hidden_size": 16}
    config = LlamaConfig(**sizes, num_hidden_layers=2, num_key_value_heads=2, vocab_size=11, attention_bias=True)
    return roughened(LlamaForCausalLM(config))


def pictures(seed, rows=5):
    return torch.randn(rows, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def tokens(seed):
    return torch.randint(0, 11, (5, 6), generator=torch.Generator().manual_seed(seed))


KINDS = {
    "vit": (vit, pictures, lambda m, x: m(x).logits, {}),
    "clip": (clip, pictures, lambda m, x: m(x).image_embeds, {"head": "visual_projection"}),
    "llama": (llama, tokens, lambda m, x: m(x).logits[:, -1], {}),
}


def made(kind, granularity="attn_in"):
    build, data, logits, options = KINDS[kind]
    model = build()
    options = {name: model.get_submodule(value) for name, value in options.items()}
    return EdgeGraph(model, granularity=granularity, **options), data(0), data(1), lambda x: logits(model, x)


@pytest.mark.parametrize("granularity", ["attn_in", "head", "qkv"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_edges_are_the_clean_run_and_none_the_corrupted(kind, granularity):
    graph, clean, corrupt, logits = made(kind, granularity)
    both = patched_logits(graph, [graph.layout.full, graph.layout.circuit([])], clean, corrupt, batch_size=2)
    with torch.no_grad():
        want = torch.stack([logits(clean), logits(corrupt)])
    torch.testing.assert_close(both, want, atol=1e-5, rtol=1e-4)
    assert (want[0] - want[1]).abs().max() > 0.1


@pytest.mark.parametrize("source_values", ["online", "cached"])
@pytest.mark.parametrize("granularity", ["attn_in", "head", "qkv"])
@pytest.mark.parametrize("kind", ["vit", "llama"])
def test_any_circuit_against_a_run_written_out(kind, granularity, source_values):
    graph, clean, corrupt, _ = made(kind, granularity)
    circuit = Circuit(
        graph.layout, torch.rand(graph.layout.valid.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    )
    got = patched_logits(graph, circuit, clean, corrupt, source_values=source_values)
    torch.testing.assert_close(got, written_out(graph, circuit, clean, corrupt, source_values), atol=1e-4, rtol=1e-3)


def written_out(graph, circuit, clean, corrupt, source_values="online"):
    """Receiver by receiver in the module's own terms, with transformers' eager attention for each head's input."""
    model, layout = graph._stream.model, graph.layout
    one = run_by_name(model, layout, clean, None)
    other = run_by_name(model, layout, corrupt, None)

    def reads(receiver, live):
        row = layout.receivers.index(receiver)
        total = other["bias before " + receiver.split(".")[0]]
        for column, name in enumerate(layout.sources):
            if layout.valid[row, column]:
                values = one if source_values == "cached" else live
                total = total + (values[name] if circuit.mask[row, column] else other[name])
        return total

    return run_by_name(model, layout, clean, reads)["logits"]


@torch.no_grad()
def run_by_name(model, layout, x, reads):
    """What each source writes, by name; `reads(receiver, so far)` says what a receiver reads, by default the sum."""
    is_vit = hasattr(model, "vit")
    base = model.vit if is_vit else model.model
    found = {"input": base.embeddings(x) if is_vit else base.embed_tokens(x)}
    bias = torch.zeros(found["input"].shape[-1])

    def at(name):
        return reads(name, found) if reads else sum(v for n, v in found.items() if "bias" not in n) + bias

    for layer, block in enumerate(base.layers):
        attention = block.attention if is_vit else block.self_attn
        norm = block.layernorm_before if is_vit else block.input_layernorm
        after = block.layernorm_after if is_vit else block.post_attention_layernorm
        found[f"bias before a{layer}"], heads = bias, {}
        for head in range(layout.n_heads):
            names = [n for n in layout.receivers if n.split(".")[0] == f"a{layer}"]
            mine = names * 3 if len(names) == 1 else [n for n in names if n.split("<")[0] == f"a{layer}.h{head}"]
            q, k, v = (norm(at(n)) for n in (mine * 3 if len(mine) == 1 else mine))
            heads[f"a{layer}.h{head}"] = one_head(attention, base, head, layout.n_heads, q, k, v)
        found.update(heads)
        bias = bias + (attention.o_proj.bias if attention.o_proj.bias is not None else 0)
        found[f"bias before m{layer}"] = bias
        found[f"m{layer}"] = block.mlp(after(at(f"m{layer}")))
    found["bias before logits"] = bias
    last = (base.layernorm if is_vit else base.norm)(at("logits"))
    found["logits"] = model.classifier(last[:, 0]) if is_vit else model.lm_head(last[:, -1])
    return found


def one_head(attention, base, head, n_heads, q, k, v):
    width = attention.o_proj.weight.shape[1] // n_heads
    group = head * attention.k_proj.weight.shape[0] // (n_heads * width)
    mine, theirs = slice(head * width, (head + 1) * width), slice(group * width, (group + 1) * width)
    q, k, v = attention.q_proj(q)[..., mine], attention.k_proj(k)[..., theirs], attention.v_proj(v)[..., theirs]
    scores = 0
    if hasattr(base, "rotary_emb"):
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        cos, sin = base.rotary_emb(q, torch.arange(q.shape[1])[None])
        q, k = (t[:, 0] for t in apply_rotary_pos_emb(q[:, None], k[:, None], cos, sin))
        scores = torch.full((q.shape[1],) * 2, -torch.inf).triu(1)
    weights = (scores + q @ k.transpose(1, 2) / width**0.5).softmax(-1)
    return weights @ v @ attention.o_proj.weight[:, mine].T


@pytest.mark.parametrize("granularity", ["attn_in", "qkv"])
def test_exact_scores_are_those_of_single_edges_left_out(granularity):
    graph, clean, corrupt, _ = made("vit", granularity)
    scores = edge_scores(graph, clean, corrupt, 1, method="exact", batch_size=3)
    edges = graph.layout.full.edges()
    assert scores.shape == graph.layout.valid.shape
    assert (scores[~graph.layout.valid] == 0).all()
    whole = patched_logits(graph, graph.layout.full, clean, corrupt)[:, 1].mean()
    for edge in edges[:: 1 if granularity == "attn_in" else 7]:
        left = graph.layout.circuit([e for e in edges if e != edge])
        fall = whole - patched_logits(graph, left, clean, corrupt)[:, 1].mean()
        assert float(scores[graph.layout.index(edge)]) == pytest.approx(float(fall), abs=1e-4)


@pytest.mark.parametrize("granularity", ["attn_in", "head", "qkv"])
@pytest.mark.parametrize("metric", ["logit", "log_prob", "kl"])
def test_eap_is_the_gradient_of_a_soft_mask(granularity, metric):
    """AutoCircuit's identity: what a mask of floats does at 1, times nothing."""
    from shared.circuits import _edge_scores, _patched

    graph, clean, corrupt, _ = made("vit", granularity)
    want = torch.zeros(graph.layout.valid.shape)
    for part in _patched.record(graph, clean, corrupt, 2, batch_size=3):
        mask = graph.layout.valid.float().requires_grad_()
        with _patched.plain_mode(graph._stream, gradients=True):
            logits = _patched.whole_run(graph, part, mask)
            value = _edge_scores.row_scores(metric, logits, part.targets, part.logits).sum()
            want += torch.autograd.grad(value, mask)[0] / len(clean)
    got = edge_scores(graph, clean, corrupt, 2, method="eap", metric=metric, batch_size=2)
    torch.testing.assert_close(got, want * graph.layout.valid, atol=1e-4, rtol=1e-3)


def linear_vit():
    """Linear in the stream: no norms, heads that attend evenly, MLPs that are one matrix."""
    model = vit()
    with torch.no_grad():
        for block in model.vit.layers:
            block.layernorm_before, block.layernorm_after = torch.nn.Identity(), torch.nn.Identity()
            block.attention.q_proj.weight.zero_()
            block.attention.q_proj.bias.zero_()
            block.mlp.activation_fn = torch.nn.Identity()
        model.vit.layernorm = torch.nn.Identity()
    return model


@pytest.mark.parametrize("method", ["eap", "eap_ig"])
def test_in_a_linear_network_gradients_are_exact(method):
    graph = EdgeGraph(linear_vit(), granularity="head")
    exact = edge_scores(graph, pictures(0), pictures(1), 0, method="exact")
    torch.testing.assert_close(
        edge_scores(graph, pictures(0), pictures(1), 0, method=method), exact, atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize("kind", ["vit", "llama"])
def test_eap_ig_is_complete_over_the_edges_of_the_input(kind):
    graph, clean, corrupt, logits = made(kind)
    scores = edge_scores(graph, clean, corrupt, 2, method="eap_ig", steps=64, rule="midpoint")
    with torch.no_grad():
        gap = (logits(clean) - logits(corrupt))[:, 2].mean()
    assert float(scores[:, 0].sum()) == pytest.approx(float(gap), rel=0.01)


def test_eap_ig_of_the_input_is_captums():
    captum = pytest.importorskip("captum.attr")
    graph, clean, corrupt, _ = made("vit")
    stream = graph._stream
    tail = captum.IntegratedGradients(lambda z: from_embeddings(stream.model, z)[:, 2])
    z, bad = stream.embed(clean).detach(), stream.embed(corrupt).detach()
    theirs = tail.attribute(z, bad, n_steps=5, method="riemann_left").sum((1, 2)).mean()
    ours = edge_scores(graph, clean, corrupt, 2, method="eap_ig", steps=5)[:, 0].sum()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-3)


def from_embeddings(model, z):
    for block in model.vit.layers:
        z = block(z)
    return model.classifier(model.vit.layernorm(z)[:, 0])


@pytest.mark.parametrize("order", ["late_first", "early_first"])
@pytest.mark.parametrize("granularity", ["attn_in", "head"])
def test_the_cached_prefix_changes_nothing(granularity, order):
    graph, clean, corrupt, _ = made("vit", granularity)
    options = {"tau": 0.05, "metric": "kl", "order": order}
    fast = prune_edges(graph, clean, corrupt, 2, **options, batch_size=3)
    slow = prune_edges(graph, clean, corrupt, 2, **options, prefix_cache=False)
    assert 0 < fast.n_edges < graph.layout.n_edges
    assert fast.edges() == slow.edges()


def test_pruning_against_the_rule_written_out():
    graph, clean, corrupt, _ = made("vit")
    layout, kept = graph.layout, list(graph.layout.full.edges())

    def mean():
        return float(patched_logits(graph, layout.circuit(kept), clean, corrupt)[:, 2].mean())

    base = mean()
    for receiver, source in itertools.product(reversed(layout.receivers), reversed(layout.sources)):
        edge = f"{source}->{receiver}"
        if edge in kept:
            kept.remove(edge)
            if base - mean() < 0.1:
                base = mean()
            else:
                kept.append(edge)
    found = prune_edges(graph, clean, corrupt, 2, tau=0.1, relative=False)
    assert set(found.edges()) == set(kept)


def test_more_tolerance_leaves_fewer_edges():
    graph, clean, corrupt, _ = made("vit")
    taus = (-float("inf"), 0.02, 0.3, float("inf"))
    sizes = [prune_edges(graph, clean, corrupt, 2, tau=tau, relative=False).n_edges for tau in taus]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == graph.layout.n_edges
    assert sizes[-1] == 0


def test_a_planted_circuit_is_found():
    """All parts write noise of their own but one path, which alone carries the answer into the class token."""
    model = planted()
    graph = EdgeGraph(model)
    clean, corrupt = pictures(0), pictures(1)
    clean[:, :, :2, :2], corrupt[:, :, :2, :2] = 1.0, -1.0
    circuit = prune_edges(graph, clean, corrupt, 0, tau=0.01)
    assert set(circuit.prune_dangling().edges()) == {"input->a0", "a0.h1->logits"}


def planted():
    """Head 1 of the first block moves one direction of the patches to the class token; nothing else writes it."""
    model = linear_vit()
    with torch.no_grad():
        model.vit.embeddings.patch_embeddings.projection.weight[0] = 1.0
        for layer, block in enumerate(model.vit.layers):
            block.attention.o_proj.weight[0] = 0.0
            block.mlp.fc2.weight[0] = 0.0
            if layer == 0:
                block.attention.v_proj.weight[4] = 0.0
                block.attention.v_proj.weight[4, 0] = 1.0
                block.attention.o_proj.weight[0, 4] = 3.0
        model.vit.embeddings.cls_token.zero_()
        model.classifier.weight[0] = 0.0
        model.classifier.weight[0, 0] = 1.0
    return model


def test_dangling_edges_do_nothing():
    graph, clean, corrupt, _ = made("vit", "head")
    for seed in range(4):
        drawn = torch.rand(graph.layout.valid.shape, generator=torch.Generator().manual_seed(seed)) < 0.35
        circuit = Circuit(graph.layout, drawn)
        whole, pruned = patched_logits(graph, [circuit, circuit.prune_dangling()], clean, corrupt)
        torch.testing.assert_close(whole, pruned, atol=1e-5, rtol=1e-4)


def test_with_cached_sources_only_edges_into_the_logits_matter():
    graph, clean, corrupt, _ = made("vit")
    last = [e for e in graph.layout.full.edges() if e.endswith("->logits")]
    circuits = [graph.layout.circuit(last), graph.layout.full]
    few, all_edges = patched_logits(graph, circuits, clean, corrupt, source_values="cached")
    torch.testing.assert_close(few, all_edges, atol=1e-5, rtol=1e-4)
    online = patched_logits(graph, circuits[0], clean, corrupt)
    assert (online - few).abs().max() > 0.05


def test_faithfulness_is_one_for_all_edges_and_zero_for_none():
    graph, clean, corrupt, logits = made("vit")
    scores = edge_scores(graph, clean, corrupt, 2, method="eap")
    curve = faithfulness_curve(graph, scores, clean, corrupt, 2, shares=[0, 0.5, 1])
    assert curve["faithfulness"][[0, 2]].tolist() == pytest.approx([0, 1], abs=1e-5)
    assert curve["share"].tolist() == pytest.approx([0, 0.5, 1], abs=0.02)
    with torch.no_grad():
        right = (logits(clean).argmax(1) == 2).float().mean()
    assert float(curve["accuracy"][2]) == float(right)


def test_a_function_as_metric():
    graph, clean, corrupt, _ = made("vit")
    own = edge_scores(graph, clean, corrupt, 1, method="eap", metric=lambda logits, target: logits[:, 1])
    torch.testing.assert_close(own, edge_scores(graph, clean, corrupt, 1, method="eap"))
    with pytest.raises(ValueError, match="metric"):
        edge_scores(graph, clean, corrupt, 1, metric=lambda logits, target: logits)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_implementations_of_attention_agree(attention):
    graph = EdgeGraph(vit(attention=attention))
    got = edge_scores(graph, pictures(0), pictures(1), 1, method="eap")
    torch.testing.assert_close(got, edge_scores(EdgeGraph(vit()), pictures(0), pictures(1), 1, method="eap"))


def test_the_model_is_left_as_it_was():
    graph, clean, corrupt, _ = made("vit")
    model = graph._stream.model
    before = copy.deepcopy(model.state_dict())
    edge_scores(graph, clean, corrupt, 1)
    prune_edges(graph, clean, corrupt, 1, tau=0.1, relative=False)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_does_not_compute_what_its_weights_say():
    graph, clean, corrupt, _ = made("vit")
    model = graph._stream.model
    steer = {"vit.layers.0": lambda z: z + 1}
    with hooks.edit(model, steer), pytest.raises(ValueError, match="model differs"):
        edge_scores(graph, clean, corrupt, 1, method="eap")
    head = next(iter(hooks.attention_modules(model)))
    with hooks.ablate_heads(model, {head: [0]}), pytest.raises(ValueError, match=r"model's attention.*eager"):
        patched_logits(graph, graph.layout.full, clean, corrupt)
    with hooks.ablate_heads(model, {head: [0]}), pytest.raises(ValueError, match=r"model's attention.*eager"):
        EdgeGraph(model)


def test_unknown_architectures():
    with pytest.raises(ValueError, match="model is a Sequential"):
        EdgeGraph(torch.nn.Sequential())
    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)
    with pytest.raises(ValueError, match=r"model is of family 'gpt2'.*known: vit"):
        EdgeGraph(GPT2LMHeadModel(config))
    with pytest.raises(ValueError, match="head is needed"):
        EdgeGraph(clip())


def test_data_that_does_not_fit():
    graph, clean, corrupt, _ = made("vit")
    every = graph.layout.full
    with pytest.raises(ValueError, match=r"corrupt must have the shape of clean, \(5, 1, 4, 4\); got \(4, 1, 4, 4\)"):
        patched_logits(graph, every, clean, corrupt[:4])
    with pytest.raises(ValueError, match="corrupt is the same as clean"):
        prune_edges(graph, clean, clean.clone(), tau=0.1)
    with pytest.raises(ValueError, match="circuits must be of EdgeLayout"):
        patched_logits(graph, EdgeGraph(vit(3)).layout.full, clean, corrupt)
    with pytest.raises(ValueError, match="circuits is empty"):
        patched_logits(graph, [], clean, corrupt)
    with pytest.raises(ValueError, match="target must lie from 0 to 3; got 4"):
        edge_scores(graph, clean, corrupt, 4)
    with pytest.raises(ValueError, match="corrupt doesn't lower the metric"):
        prune_edges(graph, corrupt, clean, lowered(graph, clean, corrupt), tau=0.1)
    model = vit()
    model.vit.embeddings.dropout.p = 0.5
    with pytest.raises(ValueError, match="training mode"):
        patched_logits(EdgeGraph(model.train()), every, clean, corrupt)


def lowered(graph, clean, corrupt):
    """The class that the clean run says more of than the corrupted, on average."""
    whole, none = patched_logits(graph, [graph.layout.full, graph.layout.circuit([])], clean, corrupt)
    return int((whole - none).mean(0).argmax())


def test_what_would_score_rounding_is_said_and_no_tolerance_is_refused():
    graph, clean, corrupt, _ = made("vit")
    with pytest.warns(UserWarning, match='metric="kl" is flat'):
        edge_scores(graph, clean, corrupt, 2, method="eap", metric="kl")
    with pytest.raises(ValueError, match="tau=nan"):
        prune_edges(graph, clean, corrupt, 2, tau=float("nan"))
