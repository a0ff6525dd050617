"""One file per architecture: how pre-activations become codes, and what is minimised beside the squared error.

To add one, write a subclass of `Architecture` and list it here; nothing else asks what architecture a dictionary has.
"""

from shared.sae.architectures._base import Architecture
from shared.sae.architectures._batchtopk import BatchTopK
from shared.sae.architectures._gated import Gated
from shared.sae.architectures._jumprelu import JumpReLU
from shared.sae.architectures._matryoshka import Matryoshka
from shared.sae.architectures._relu import ReLU
from shared.sae.architectures._topk import TopK

ARCHITECTURES: dict[str, Architecture] = {
    kind.name: kind for kind in (ReLU(), JumpReLU(), Gated(), TopK(), BatchTopK(), Matryoshka())
}
