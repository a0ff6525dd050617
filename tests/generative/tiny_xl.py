"""Tiny pipelines of random weights of the later kinds: the real classes, latents of 8 × 8."""

from typing import Any

import torch

from shared.zoo.recipes._small_clip import CONTEXT, build_tokenizer
from tests.generative.tiny import WIDTH, tiny_pipeline


def _encoder(kind: str, tokenizer: Any) -> Any:
    import transformers

    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    special |= {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer), "projection_dim": WIDTH}
    size = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPTextConfig(**size, **special, max_position_embeddings=CONTEXT)
    return getattr(transformers, kind)(config).eval()


def tiny_xl() -> Any:
    """A `StableDiffusionXLPipeline`."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    base, tokenizer = tiny_pipeline(), build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 16), layers_per_block=1,
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"], attention_head_dim=2, norm_num_groups=4,
            up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"], cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        )  # fmt: skip
        first, second = _encoder("CLIPTextModel", tokenizer), _encoder("CLIPTextModelWithProjection", tokenizer)
    pipeline = StableDiffusionXLPipeline(
        vae=base.vae, text_encoder=first, text_encoder_2=second, tokenizer=tokenizer, tokenizer_2=tokenizer,
        unet=unet.eval(), scheduler=base.scheduler, add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_sd3(**options: Any) -> Any:
    """A `StableDiffusion3Pipeline` without T5."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    base, tokenizer = tiny_pipeline(), build_tokenizer()
    base.vae.register_to_config(shift_factor=0.1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        transformer = SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=2 * WIDTH, caption_projection_dim=16,
            pooled_projection_dim=2 * WIDTH, pos_embed_max_size=8,
        )  # fmt: skip
        encoders = [_encoder("CLIPTextModelWithProjection", tokenizer) for _ in range(2)]
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, **options), vae=base.vae,
        text_encoder=encoders[0], text_encoder_2=encoders[1], text_encoder_3=None, tokenizer=tokenizer,
        tokenizer_2=tokenizer, tokenizer_3=None,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_flux(guidance: bool = True, **options: Any) -> Any:
    """A `FluxPipeline`; the tokeniser of CLIP stands in for T5's."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    base, tokenizer = tiny_pipeline(), build_tokenizer()
    base.vae.register_to_config(shift_factor=0.1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        transformer = FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance,
        )  # fmt: skip
        size = {"d_model": WIDTH, "d_ff": 32, "d_kv": 8, "num_layers": 1, "num_heads": 2}
        t5 = T5EncoderModel(T5Config(vocab_size=len(tokenizer), **size)).eval()
        clip = _encoder("CLIPTextModel", tokenizer)
    pipeline = FluxPipeline(
        transformer=transformer.eval(), scheduler=FlowMatchEulerDiscreteScheduler(**options), vae=base.vae,
        text_encoder=clip, text_encoder_2=t5, tokenizer=tokenizer, tokenizer_2=tokenizer,
    )  # fmt: skip
    pipeline.default_sample_size = 8
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
