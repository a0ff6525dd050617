"""The small models of the LRP tests serve here too."""

from tests.lrp.conftest import (  # noqa: F401
    _seeded,
    conv_net,
    images,
    make_llama,
    make_vit,
    residual_net,
    token_ids,
)
