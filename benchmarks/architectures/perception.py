"""Models of images and sound of transformers: ViT, Swin, ConvNeXt, EfficientNet, DETR, SAM, Whisper, wav2vec 2.0.

In: sizes. Out: `Export`s; the batch is dynamic, and so is the length of wav2vec's sound.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    DetrConfig,
    DetrForObjectDetection,
    EfficientNetConfig,
    EfficientNetModel,
    ResNetConfig,
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WhisperConfig,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from .exports import PLAIN, Export, attribute, pixels


def vit(layers: int, width: int, heads: int, size: int) -> Export:
    """ViT-B/16 is 12, 768, 12, 224."""
    sizes = ViTConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width,
        image_size=size,
    )  # fmt: skip
    return pixels(lambda: ViTModel(sizes, add_pooling_layer=False), size)


def swin(width: int, depths: tuple[int, ...], heads: tuple[int, ...], size: int, window: int) -> Export:
    """Attention in windows that shift: Swin-T is 96, (2, 2, 6, 2), (3, 6, 12, 24), 224, 7."""
    sizes = SwinConfig(
        image_size=size, embed_dim=width, depths=list(depths), num_heads=list(heads), window_size=window, **PLAIN
    )
    return pixels(lambda: SwinModel(sizes, add_pooling_layer=False), size)


def convnext(widths: tuple[int, ...], depths: tuple[int, ...], size: int) -> Export:
    """Depthwise 7x7, normalisation over channels, GELU: ConvNeXt-T is (96, 192, 384, 768), (3, 3, 9, 3)."""
    sizes = ConvNextConfig(hidden_sizes=list(widths), depths=list(depths), num_stages=len(widths), image_size=size)
    return pixels(lambda: ConvNextModel(sizes), size)


def efficientnet(size: int) -> Export:
    """MobileNet's blocks with squeeze and excitation and SiLU, padded unevenly; four of B0's seven stages, narrower."""
    sizes = EfficientNetConfig(
        image_size=size, width_coefficient=0.5, depth_coefficient=0.5, kernel_sizes=[3, 3, 5, 3],
        in_channels=[32, 16, 24, 40], out_channels=[16, 24, 40, 80], strides=[1, 2, 2, 2],
        num_block_repeats=[1, 2, 2, 3], expand_ratios=[1, 6, 6, 6], depthwise_padding=[], hidden_dim=640,
    )  # fmt: skip
    return pixels(lambda: EfficientNetModel(sizes), size)


def detr(width: int, heads: int, queries: int, size: int) -> Export:
    """A ResNet, a transformer over its pixels, and queries that each ask for one object."""
    backbone = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    sizes = DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=width,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=heads, decoder_attention_heads=heads,
        encoder_ffn_dim=2 * width, decoder_ffn_dim=2 * width, num_queries=queries, num_labels=6,
    )  # fmt: skip
    return pixels(lambda: DetrForObjectDetection(sizes), size, "pred_boxes")


class Segmenter(nn.Module):
    """Image and points to masks and their scores."""

    def __init__(self, sizes: SamConfig) -> None:
        super().__init__()
        self.model = SamModel(sizes)

    def forward(
        self, image: torch.Tensor, points: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.model(pixel_values=image, input_points=points, input_labels=labels)
        return outputs.pred_masks, outputs.iou_scores


def sam(width: int, size: int) -> Export:
    """Segment anything: windowed and global attention with relative positions, two-way attention with the points."""
    vision = SamVisionConfig(
        hidden_size=width, output_channels=32, num_hidden_layers=2, num_attention_heads=2, image_size=size,
        patch_size=8, window_size=4, global_attn_indexes=[1], mlp_dim=2 * width, num_pos_feats=16,
    )  # fmt: skip
    prompts = SamPromptEncoderConfig(hidden_size=32, image_size=size, patch_size=8, mask_input_channels=4)
    masks = SamMaskDecoderConfig(
        hidden_size=32, mlp_dim=64, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=32
    )
    sizes = SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks, **PLAIN)
    inputs = {
        "pixel_values": torch.randn(1, 3, size, size),
        "input_points": torch.rand(1, 1, 3, 2) * size,
        "input_labels": torch.ones(1, 1, 3, dtype=torch.int64),
    }
    dynamic = {"pixel_values": {}, "input_points": {2: "points"}, "input_labels": {2: "points"}}
    return Export(lambda: Segmenter(sizes), inputs, dynamic, ["masks", "scores"])


def whisper_encoder(layers: int, width: int, heads: int, length: int) -> Export:
    """Two convolutions over a spectrogram, then attention: Whisper-base is 6, 512, 8, 1500."""
    sizes = WhisperConfig(
        d_model=width, encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=4 * width,
        max_source_positions=length,
    )  # fmt: skip
    inputs = {"input_features": torch.randn(2, 80, 2 * length)}
    return attribute(lambda: WhisperEncoder(sizes), inputs, {"input_features": {0: "batch"}}, "last_hidden_state")


def wav2vec(layers: int, width: int, heads: int) -> Export:
    """Convolutions over raw sound, a wide grouped one for positions, then attention."""
    sizes = Wav2Vec2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=2 * width,
        conv_dim=[32, 32, 32], conv_kernel=[10, 3, 3], conv_stride=[5, 2, 2], num_feat_extract_layers=3,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, vocab_size=32,
    )  # fmt: skip
    inputs = {"input_values": torch.randn(2, 1600)}
    axes = {"input_values": {0: "batch", 1: "samples"}}
    return attribute(partial(Wav2Vec2Model, sizes), inputs, axes, "last_hidden_state")
