"""A tiny `StableDiffusionPipeline` of random weights: the real classes, latents of 8 × 8, images of 16 × 16."""

from typing import Any

import torch

from shared.zoo.recipes._small_clip import CONTEXT, build_tokenizer

WIDTH = 16


def tiny_pipeline(prediction_type: str = "epsilon", sample_size: int = 8) -> Any:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = build_tokenizer()
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    special |= {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    size = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = CLIPTextModel(CLIPTextConfig(**size, **special, max_position_embeddings=CONTEXT))
        unet = UNet2DConditionModel(
            sample_size=sample_size, in_channels=4, out_channels=4, block_out_channels=(16, 16), layers_per_block=1,
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"], attention_head_dim=2, norm_num_groups=4,
            up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"], cross_attention_dim=WIDTH,
        )  # fmt: skip
        vae = AutoencoderKL(
            latent_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, sample_size=16,
            scaling_factor=0.5,
        )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text.eval(), tokenizer=tokenizer, unet=unet.eval(),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1, prediction_type=prediction_type,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
