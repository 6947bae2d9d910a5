"""Language models of transformers: encoders, decoders with and without a cache, encoder-decoders.

In: sizes. Out: `Export`s; batch, sequence and cache lengths are dynamic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from .exports import PLAIN, Export, attribute

AXES = {0: "batch", 1: "sequence"}


class WithCache(nn.Module):
    """A decoder that takes and returns the keys and values of earlier words, a pair of tensors for each layer."""

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        self.model, self.layers = model, layers

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache()
        for layer in range(self.layers):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        outputs = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        kept = outputs.past_key_values.layers
        return (outputs.logits, *(tensor for layer in kept for tensor in (layer.keys, layer.values)))


def _of_words(make: Callable[[], nn.Module], names: list[str], result: str) -> Export:
    """All words at once, no cache."""
    ids = torch.ones(2, 16, dtype=torch.int64)
    inputs = {name: ids * (name != "token_type_ids") for name in names}
    return attribute(make, inputs, dict.fromkeys(names, AXES), result)


def _next_word(make: Callable[[], nn.Module], layers: int, heads: int, size: int) -> Export:
    """Decoding: some words after those in the cache."""
    past = {f"past_{layer}_{kind}": torch.randn(2, heads, 6, size) for layer in range(layers) for kind in ("k", "v")}
    inputs = {
        "input_ids": torch.ones(2, 3, dtype=torch.int64),
        "attention_mask": torch.ones(2, 9, dtype=torch.int64),
        **past,
    }
    axes = {
        "input_ids": AXES,
        "attention_mask": {0: "batch", 1: "total"},
        **{name: {0: "batch", 2: "past"} for name in past},
    }
    outputs = ["logits", *(name.replace("past", "present") for name in past)]
    return Export(lambda: WithCache(make(), layers), inputs, axes, outputs)


def bert(layers: int, width: int, heads: int, words: int) -> Export:
    """BERT-base is 12 layers of width 768 with 12 heads and 30522 words."""
    sizes = BertConfig(
        vocab_size=words, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width,
    )  # fmt: skip
    names = ["input_ids", "attention_mask", "token_type_ids"]
    return _of_words(lambda: BertModel(sizes), names, "last_hidden_state")


def distilbert(layers: int, width: int, heads: int, words: int) -> Export:
    """BERT without token types: 6, 768, 12, 30522."""
    sizes = DistilBertConfig(vocab_size=words, dim=width, n_layers=layers, n_heads=heads, hidden_dim=4 * width)
    return _of_words(lambda: DistilBertModel(sizes), ["input_ids", "attention_mask"], "last_hidden_state")


def gpt2(layers: int, width: int, heads: int, words: int, cached: bool = False) -> Export:
    """The small GPT-2 has 12 layers of width 768, 12 heads, 50257 words."""
    sizes = GPT2Config(vocab_size=words, n_embd=width, n_layer=layers, n_head=heads, n_positions=1024, use_cache=cached)
    make = partial(GPT2LMHeadModel, sizes)
    if cached:
        return _next_word(make, layers, heads, width // heads)
    return _of_words(make, ["input_ids", "attention_mask"], "logits")


def llama(layers: int, width: int, heads: int, groups: int, words: int, cached: bool = False) -> Export:
    """Rotary positions, grouped queries, RMS normalisation, SwiGLU: Llama-3.2-1B is 16, 2048, 32, 8, 128256."""
    sizes = LlamaConfig(
        vocab_size=words, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=groups, use_cache=cached,
    )  # fmt: skip
    make = partial(LlamaForCausalLM, sizes)
    if cached:
        return _next_word(make, layers, groups, width // heads)
    return _of_words(make, ["input_ids", "attention_mask"], "logits")


def _t5(layers: int, width: int, heads: int, words: int) -> T5Config:
    return T5Config(
        vocab_size=words, d_model=width, d_kv=width // heads, d_ff=4 * width, num_layers=layers, num_heads=heads,
        use_cache=False, **PLAIN,
    )  # fmt: skip


def t5_encoder(layers: int, width: int, heads: int, words: int) -> Export:
    """Relative positions as a bias of the scores, RMS normalisation: T5-small is 6, 512, 8, 32128."""
    make = partial(T5EncoderModel, _t5(layers, width, heads, words))
    return _of_words(make, ["input_ids", "attention_mask"], "last_hidden_state")


class T5Decoder(nn.Module):
    """Words so far, the encoder's states and their mask, to scores of the next word."""

    def __init__(self, sizes: T5Config) -> None:
        super().__init__()
        self.model = T5ForConditionalGeneration(sizes)

    def forward(self, ids: torch.Tensor, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        outputs = self.model.decoder(
            input_ids=ids, encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
        )
        result: torch.Tensor = self.model.lm_head(outputs.last_hidden_state)
        return result


def t5_decoder(layers: int, width: int, heads: int, words: int) -> Export:
    """The other half, with attention to the encoder's states."""
    sizes = _t5(layers, width, heads, words)
    inputs = {
        "decoder_input_ids": torch.ones(2, 5, dtype=torch.int64),
        "encoder_hidden_states": torch.randn(2, 16, width),
        "encoder_attention_mask": torch.ones(2, 16, dtype=torch.int64),
    }
    read = {0: "batch", 1: "read"}
    dynamic = dict(zip(inputs, ({0: "batch", 1: "written"}, read, read), strict=True))
    return Export(lambda: T5Decoder(sizes), inputs, dynamic, ["logits"])
