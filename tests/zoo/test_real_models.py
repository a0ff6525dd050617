"""The packaged real models do what their cards say. Needs `make assets`; skipped only where they were never fetched."""

import pytest
import torch
from torch.nn.functional import interpolate, normalize

from shared import zoo
from shared.compendium.paths import cache_dir

PROMPTS = {
    "The capital of France is": " Paris",
    "The opposite of hot is": " cold",
    "My name is John and I live in New": " York",
    "Monday, Tuesday,": " Wednesday",
    "The first president of the United States was George": " Washington",
    "2 + 2 = ": "4",
    "Once upon a": " time",
    "The Eiffel Tower is in the city of": " Paris",
    "The chemical formula of water is H": "2",
    "A cat is an": " animal",
    "Roses are red, violets are": " blue",
    "The largest planet in the solar system is": " Jupiter",
    "Romeo and": " Juliet",
    "one, two, three, four,": " five",
}
PARAGRAPH = (
    "The Industrial Revolution was the transition to new manufacturing processes in Europe and the United States, in "
    "the period from about 1760 to sometime between 1820 and 1840. This transition included going from hand production "
    "methods to machines, new chemical manufacturing and iron production processes, the increasing use of steam power, "
    "the development of machine tools and the rise of the factory system."
)
SENTENCES = (
    "A man is playing a guitar on stage.",
    "A musician performs with his guitar.",
    "The stock market fell sharply today.",
    "Share prices dropped on Wall Street.",
)
STRINGS = (
    "Hi 123  x",
    "two\n\nlines\tand tab",
    "naïve café — Zürich",
    "🎉🎉 emoji",
    "def f(x):\n    return x ** 2",
    "  lead",
    "",
)


def _load(name):
    if not (cache_dir() / name).is_dir():
        pytest.skip(f"{name} isn't fetched (make assets)")
    return zoo.load_model(name)


@pytest.fixture(scope="module")
def smollm2():
    return _load("smollm2-135m")


@pytest.fixture(scope="module")
def gemma3():
    """Optional: only where somebody fetched it by its name."""
    return _load("gemma3-270m")


@pytest.fixture(scope="module")
def efficientnet():
    return _load("efficientnet-lite0")


def test_smollm2_is_the_architecture_it_says(smollm2):
    config = smollm2.model.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (30, 576, 1536)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (9, 3, 64)
    assert (config.vocab_size, config.max_position_embeddings, config.rms_norm_eps) == (49152, 8192, 1e-5)
    assert config.rope_parameters["rope_theta"] == 1e5
    assert config.tie_word_embeddings
    assert smollm2.info.n_parameters == zoo.describe("smollm2-135m").measured("parameters")
    assert not smollm2.model.training
    assert smollm2.model.dtype == torch.float32


def test_smollm2_knows_what_its_card_says(smollm2):
    right = 0
    for prompt, answer in PROMPTS.items():
        ids = smollm2.tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            top = smollm2.model(ids, use_cache=False).logits[0, -1].argmax()
        right += smollm2.tokenizer.decode(top) == answer
    assert right == zoo.describe("smollm2-135m").measured("next-token top-1 on 14 fixed prompts")


def test_smollm2_reads_english(smollm2):
    """A wrong tokenizer shows as half a nat and more."""
    ids = smollm2.tokenizer(PARAGRAPH, return_tensors="pt").input_ids
    with torch.inference_mode():
        loss = smollm2.model(ids, labels=ids, use_cache=False).loss.item()
    what = "mean NLL in nats per token of a fixed English paragraph of 81 tokens"
    assert ids.shape == (1, 81)
    assert loss == pytest.approx(zoo.describe("smollm2-135m").measured(what), abs=0.01)


def test_smollm2_tokenizer_round_trip_and_single_digits(smollm2):
    for text in STRINGS:
        assert smollm2.tokenizer.decode(smollm2.tokenizer(text).input_ids) == text
    assert smollm2.tokenizer.tokenize("in 1760") == ["in", "Ġ", "1", "7", "6", "0"]
    chat = smollm2.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert smollm2.tokenizer("<|im_start|>").input_ids == [1]


def test_gemma3_knows_what_its_card_says(gemma3):
    """It starts texts itself; a wrong mask, base or norm shows at once in these."""
    card, tokenizer = zoo.describe("gemma3-270m"), gemma3.tokenizer
    assert gemma3.info.n_parameters == card.measured("parameters")
    right = 0
    with torch.inference_mode():
        for prompt, answer in PROMPTS.items():
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            right += tokenizer.decode(gemma3.model(ids, use_cache=False).logits[0, -1].argmax()) == answer
        ids = tokenizer(PARAGRAPH, return_tensors="pt").input_ids
        loss = gemma3.model(ids, labels=ids, use_cache=False).loss.item()
    assert right == card.measured("next-token top-1 on 14 fixed prompts")
    assert ids.shape == (1, 82)
    what = "mean NLL in nats per token of a fixed English paragraph of 82 tokens"
    assert loss == pytest.approx(card.measured(what), abs=0.01)


def test_gemma3_tokenizer_round_trip_and_single_digits(gemma3):
    tokenizer = gemma3.tokenizer
    for text in STRINGS:
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert tokenizer.tokenize("in 1760") == ["in", "▁", "1", "7", "6", "0"]
    assert tokenizer("").input_ids == [tokenizer.bos_token_id] == [2]


def test_minilm_puts_related_sentences_near():
    encoder = _load("minilm-l6")
    batch = encoder.tokenizer(list(SENTENCES), return_tensors="pt", padding=True)
    with torch.inference_mode():
        hidden = encoder.model(**batch).last_hidden_state
    mask = batch.attention_mask.unsqueeze(-1)
    unit = normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    cosine = unit @ unit.T
    card = zoo.describe("minilm-l6")
    related = card.measured("cosine of two sentences about one guitarist")
    unrelated = card.measured("cosine of a sentence about a guitarist with one about the stock market")
    assert cosine[0, 1].item() == pytest.approx(related, abs=0.005)
    assert cosine[0, 2].item() == pytest.approx(unrelated, abs=0.005)
    assert cosine[2, 3] > 0.5 > cosine[:2, 2:].max()


@pytest.mark.parametrize(
    ("photo", "index", "word"),
    [
        ("chelsea", 285, "Egyptian cat"),
        ("coffee", 967, "espresso"),
        ("camera", 872, "tripod"),
        ("rocket", 540, "drilling platform"),
    ],
)
def test_efficientnet_names_the_photos(efficientnet, photo, index, word):
    image = zoo.load_data("photos", names=[photo]).x[0]
    small = interpolate(image[None], (224, 224), mode="bilinear", antialias=True)
    with torch.inference_mode():
        probability = efficientnet.model(efficientnet.preprocess(small)).softmax(1)[0]
    what = f"{photo} is class {index} ({word}) with probability"
    assert probability.argmax() == index
    assert efficientnet.info.classes[index].startswith(word)
    assert probability[index].item() == pytest.approx(zoo.describe("efficientnet-lite0").measured(what), abs=0.01)


def test_efficientnet_other_sizes_and_bad_input(efficientnet):
    with torch.inference_mode():
        assert efficientnet.model(torch.rand(2, 3, 64, 96)).shape == (2, 1000)
        assert efficientnet.model.features(torch.rand(1, 3, 64, 96)).shape == (1, 1280, 2, 3)
        for shape in [(1, 3, 65, 64), (3, 64, 64), (0, 3, 64, 64), (1, 1, 64, 64)]:
            with pytest.raises(ValueError, match="x has shape"):
                efficientnet.model(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"images has shape \(1, 1, 8, 8\)"):
        efficientnet.preprocess(torch.rand(1, 1, 8, 8))


def test_efficientnet_equals_its_peer(efficientnet):
    peer = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    peer.load_state_dict(dict(zip(peer.state_dict(), efficientnet.model.state_dict().values())))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(peer(x), efficientnet.model(x))


def test_dtype_and_device():
    if not (cache_dir() / "minilm-l6").is_dir():
        pytest.skip("minilm-l6 isn't fetched (make assets)")
    assert zoo.load_model("minilm-l6", dtype="bfloat16").model.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="device='cuda:99' can't be used here; usable: cpu"):
        zoo.load_model("minilm-l6", device="cuda:99")
    with pytest.raises(ValueError, match="dtype='int8' is unknown; known: float32"):
        zoo.load_model("minilm-l6", dtype="int8")
    with pytest.raises(ValueError, match=r"dtype=torch.int8 is unknown; .*known: torch.float32"):
        zoo.load_model("minilm-l6", dtype=torch.int8)
    with pytest.raises(TypeError, match="efficientnet-lite0 takes no options; got revision"):
        zoo.load_model("efficientnet-lite0", revision="main")
