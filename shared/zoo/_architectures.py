"""What the zoo's own checkpoints are built from."""

from __future__ import annotations

from shared import nets

# name in config.json: (constructor, what its input is unless the config says otherwise)
ARCHITECTURES = {
    "efficientnet-lite0": (
        nets.EfficientNetLite0,
        {"input_size": (3, 224, 224), "mean": (0.498,) * 3, "std": (0.502,) * 3},
    ),
    "small-resnet": (nets.SmallResNet, {}),
    "small-vgg": (nets.SmallVGG, {}),
    "small-bcos": (nets.SmallBcos, {}),
    "pooled-vgg": (nets.PooledVGG, {}),
    "patch-head": (nets.PatchHead, {}),
    "concept-autoencoder": (nets.ConceptAutoencoder, {}),
    "factor-cnn": (nets.FactorCNN, {}),
}
