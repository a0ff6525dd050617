"""Judges of what an image shows: yes or no, image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shared._checks import check_array, check_choice


@runtime_checkable
class ImageJudge(Protocol):
    """Whatever answers a question about images by yes or no."""

    def ask(self, images: Tensor, question: Any) -> Tensor:
        """Ask about each image.

        Parameters
        ----------
        images : (B, 3, H, W) in [0, 1].
        question : of the judge's own kind.

        Returns
        -------
        bool (B,).
        """
        ...


class FactorJudge:
    """A classifier with one head per factor.

    Parameters
    ----------
    model : returns logits (B, values) by factor, and has `factors`, the value names by factor.
    size : (H, W) that images are resized to; None leaves them as they are.
    batch_size : images at a time.
    """

    def __init__(self, model: nn.Module, *, size: Sequence[int] | None = None, batch_size: int = 500) -> None:
        if not isinstance(getattr(model, "factors", None), dict):
            raise TypeError(f"model is a {type(model).__name__} without factors: value names by factor")
        self.model = model
        self.factors = model.factors
        self.size = size
        self.batch_size = batch_size

    def values(self, images: Tensor) -> dict[str, Tensor]:
        """The most likely value of each factor.

        Parameters
        ----------
        images : (B, 3, H, W) in [0, 1].

        Returns
        -------
        Numbers (B,) by factor, int64.
        """
        return {name: probability.argmax(1) for name, probability in self.probabilities(images).items()}

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> dict[str, Tensor]:
        """Each value's probability.

        Parameters
        ----------
        images : (B, 3, H, W) in [0, 1].

        Returns
        -------
        Probabilities (B, values) by factor, on the CPU.
        """
        check_array("images", images, ("B", 3, "H", "W"))
        device = next(self.model.parameters()).device
        side = self.size or images.shape[2:]
        parts = [self.model(_resized(part, side).to(device)) for part in images.split(self.batch_size)]
        return {name: torch.cat([part[name] for part in parts]).softmax(1).cpu() for name in self.factors}

    def ask(self, images: Tensor, question: tuple[str, str]) -> Tensor:
        """Ask whether a factor's most likely value is this one.

        Parameters
        ----------
        images : (B, 3, H, W) in [0, 1].
        question : (factor, value).

        Returns
        -------
        bool (B,).

        Raises
        ------
        UnknownNameError
            For an unknown factor or value.
        """
        factor, value = question
        known = self.factors[check_choice("factor", factor, self.factors)]
        return self.values(images)[factor] == known.index(check_choice("value", value, known))


class ClipJudge:
    """The text most like the image among several.

    Parameters
    ----------
    similarity : maps images (B, 3, H, W) in [0, 1] and T texts to scores (B, T), such as a zero-shot head's logits.
    """

    def __init__(self, similarity: Callable[[Tensor, Sequence[str]], Tensor]) -> None:
        self.similarity = similarity

    @torch.no_grad()
    def ask(self, images: Tensor, question: tuple[str, Sequence[str]]) -> Tensor:
        """Ask whether one text is more like the image than all others.

        Parameters
        ----------
        images : (B, 3, H, W) in [0, 1].
        question : (text that says yes, the other texts).

        Returns
        -------
        bool (B,).

        Raises
        ------
        ValueError
            Without another text, or with the text itself among them.
        """
        check_array("images", images, ("B", 3, "H", "W"))
        yes, others = question
        if isinstance(others, str) or not others or yes in others:
            raise ValueError(f"question={question!r} must be (text, other texts): at least one, and not that text")
        return self.similarity(images, [yes, *others]).argmax(1).cpu() == 0


class VQAJudge:
    """A vision-language model that answers yes-or-no questions with one letter; whatever isn't A counts as no.

    Parameters
    ----------
    model : transformers' image-text-to-text model, such as Qwen2.5-VL.
    processor : its processor.
    batch_size : images at a time.
    instruction : what is asked, with {} for the question; by default as PCI's official code asks, in other words.
    """

    INSTRUCTION = "Reply to the question with one letter and nothing else.\nA = YES\nB = NO\n\nQuestion: {}\nAnswer:"

    def __init__(
        self, model: nn.Module, processor: Any, *, batch_size: int = 16, instruction: str = INSTRUCTION
    ) -> None:
        if "{}" not in instruction:
            raise ValueError(f"instruction={instruction!r} has no place {{}} for the question")
        self.instruction = instruction
        self.model = model
        self.processor = processor
        self.batch_size = batch_size

    @classmethod
    def load(cls, folder: Any, *, device: str | torch.device = "cpu", dtype: Any = "auto") -> VQAJudge:
        """From a local folder in the hub's layout, without remote code.

        Parameters
        ----------
        folder : holds model, tokenizer and image processor.
        device : where the weights go.
        dtype : of the weights; "auto" as they are stored.

        Returns
        -------
        The judge.
        """
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

        local = {"local_files_only": True, "trust_remote_code": False}
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, use_safetensors=True, **local)
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **local)
        images = AutoImageProcessor.from_pretrained(folder, backend="pil", **local)
        return cls(model.to(device).eval(), _Processor(tokenizer, images, model.config.image_token_id))

    @torch.no_grad()
    def ask(self, images: Tensor, question: str) -> Tensor:
        """Ask the model of each image.

        Parameters
        ----------
        images : (B, 3, H, W) in [0, 1].
        question : a sentence, such as "Is there a person with glasses?".

        Returns
        -------
        bool (B,).

        Raises
        ------
        ValueError
            For a question that is empty or no text.
        """
        check_array("images", images, ("B", 3, "H", "W"))
        if not isinstance(question, str) or not question.strip():
            raise ValueError(f"question={question!r} must be a sentence")
        return torch.cat([self._answers(part, question) for part in images.split(self.batch_size)])

    def _answers(self, images: Tensor, question: str) -> Tensor:
        content = [{"type": "image"}, {"type": "text", "text": self.instruction.format(question)}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        shown = list((images * 255).round().to(torch.uint8))
        given = self.processor(text=[text] * len(shown), images=shown, padding=True, return_tensors="pt")
        given = given.to(self.model.device)
        said = self.model.generate(**given, max_new_tokens=1, do_sample=False)[:, given["input_ids"].shape[1] :]
        words = self.processor.batch_decode(said, skip_special_tokens=True)
        return torch.tensor([word.strip().upper()[:1] == "A" for word in words])


class _Processor:
    """Text and images for Qwen's kin; transformers' own processor also wants what reads videos (torchvision)."""

    def __init__(self, tokenizer: Any, image_processor: Any, image_token: int) -> None:
        self.tokenizer, self.image_processor, self.image_token = tokenizer, image_processor, image_token
        self.apply_chat_template, self.batch_decode = tokenizer.apply_chat_template, tokenizer.batch_decode

    def __call__(self, text: Sequence[str], images: Sequence[Tensor], padding: bool, return_tensors: str) -> Any:
        """One image per text, whose one image token is repeated as often as the image has merged patches."""
        shown = self.image_processor(images=[image.numpy() for image in images], return_tensors=return_tensors)
        counts = shown["image_grid_thw"].prod(1) // self.image_processor.merge_size**2
        token = self.tokenizer.convert_ids_to_tokens(self.image_token)
        told = [one.replace(token, token * int(count)) for one, count in zip(text, counts)]
        given = self.tokenizer(told, padding=padding, return_tensors=return_tensors)
        shown.update(given)
        shown["mm_token_type_ids"] = (given["input_ids"] == self.image_token).long()
        return shown


def _resized(images: Tensor, side: Sequence[int]) -> Tensor:
    if tuple(images.shape[2:]) == tuple(side):
        return images
    return interpolate(images, tuple(side), mode="bilinear", antialias=True, align_corners=False)
