"""The models that are compiled and compared as wholes: in a name, out a Model with its file and inputs.

One table for tests and benchmarks. Inputs are seeded, and realistic where a model answers nothing on noise;
sizes are what the NumPy emulator, at about 0.7 GFLOP/s, does in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from examples.models import fetch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tests.support.seeded_weights import fill

Inputs = dict[str, NDArray[np.generic]]
GRAPHS = Path(__file__).resolve().parent.parent / "models" / "graphs"
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


@dataclass(frozen=True)
class Model:
    """One model: how to load it, and inputs at one or two shapes.

    `tolerance` is the largest difference allowed, relative to the largest output. `gigaflop` is the work of
    the first of the inputs; models above 1 are the slow ones.
    """

    load: Callable[[], Path | onnx.ModelProto]
    inputs: Callable[[], list[Inputs]]
    gigaflop: float
    # float32 sums in another order; correct implementations were seen to differ by 1e-5, at most 2.4e-4.
    tolerance: float = 1e-4

    def prototype(self) -> onnx.ModelProto:
        """The model in memory, whether it is a file or made here."""
        loaded = self.load()
        return onnx.load(loaded) if isinstance(loaded, Path) else loaded


def _light(stem: str) -> Callable[[], onnx.ModelProto]:
    return lambda: fill(onnx.load(LIGHT / f"light_{stem}.onnx"))


def _noise(name: str, *shapes: tuple[int, ...]) -> list[Inputs]:
    generator = np.random.default_rng(0)
    return [{name: generator.standard_normal(shape).astype(np.float32)} for shape in shapes]


def _page(name: str, scale: float, shift: float, *shapes: tuple[int, ...]) -> list[Inputs]:
    """White pages with black text, as values scale * [0, 1] + shift: a detector answers nothing on noise."""
    pages: list[Inputs] = []
    for shape in shapes:
        height, width = shape[-2:]
        page = Image.new("L", (width, height), 255)
        size = min(28, height // 2)
        for line in range(max(1, height // (2 * size))):
            font = ImageFont.load_default(size)
            ImageDraw.Draw(page).text((4, size * (0.5 + 2 * line)), "Hello 42, page of text", 0, font)
        noise = 0.02 * np.random.default_rng(1).standard_normal(shape)
        pages.append({name: (scale * (np.asarray(page) / 255 + noise) + shift).astype(np.float32)})
    return pages


def _tokens(names: list[str], words: int, *shapes: tuple[int, int]) -> list[Inputs]:
    """Word numbers, with the last quarter of the last row masked out, as in a padded batch."""
    generator = np.random.default_rng(2)
    batches: list[Inputs] = []
    for shape in shapes:
        mask = np.ones(shape, np.int64)
        if shape[0] > 1:
            mask[-1, -(shape[1] // 4) :] = 0
        values = {
            "input_ids": generator.integers(1, words, shape) * mask,
            "attention_mask": mask,
            "token_type_ids": np.zeros(shape, np.int64),
        }
        batches.append({name: values[name] for name in names})
    return batches


def _bytes() -> list[Inputs]:
    """Two files' beginnings and ends as magika takes them: this source file, and a binary one."""
    generator = np.random.default_rng(3)
    source = np.frombuffer(Path(__file__).read_bytes(), np.uint8)
    text = np.concatenate([source[:1024], source[-1024:]]).astype(np.int32)
    binary = generator.integers(0, 256, 2048).astype(np.int32)
    padded = np.where(np.arange(2048) % 1024 < 300, text, 256).astype(np.int32)
    return [{"bytes": text[None]}, {"bytes": np.stack([text, binary, padded])}]


def _speech() -> list[Inputs]:
    """A windowed tone with noise, 576 samples at 16 kHz, and a state that is not zero."""
    generator = np.random.default_rng(4)
    inputs: list[Inputs] = []
    for batch in (1, 3):
        tone = np.sin(np.arange(576) * 0.08) * np.hanning(576)
        sound = tone + 0.05 * generator.standard_normal((batch, 576))
        state = 0.3 * generator.standard_normal((2, batch, 128))
        inputs.append(
            {
                "input": sound.astype(np.float32),
                "state": state.astype(np.float32),
                "sr": np.array(16000, np.int64),
            }
        )
    return inputs


def _two_rates() -> list[Inputs]:
    """The windows of `_speech`, one at 16 kHz and one, half as long, at 8 kHz."""
    first, second = _speech()
    return [first, {**second, "input": second["input"][:, ::2], "sr": np.array(8000, np.int64)}]


def _speech_in_a_row() -> list[Inputs]:
    """Three windows of one recording at once."""
    windows = _speech()[1]["input"]
    states = {name: np.full((1, 1, 128), 0.1, np.float32) for name in ("h", "c")}
    return [{"input": windows, **states}, {"input": windows[:1], **states}]


def _spectra() -> list[Inputs]:
    """Stacked log-mel frames and a speaker's vector; two steps more for the second, of two speakers."""
    generator = np.random.default_rng(5)
    inputs: list[Inputs] = []
    for batch, steps in ((1, 3), (2, 5)):
        shapes = {
            "stacked_logmel": (batch, steps, 512),
            "dvec": (batch, 256),
            "h0": (3, batch, 512),
            "c0": (3, batch, 512),
        }
        inputs.append({name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()})
    return inputs


def _phonemes() -> list[Inputs]:
    """Forty phonemes with no noise: the voice's random numbers are multiplied by the first and the last scale."""
    words = np.random.default_rng(6).integers(1, 130, (1, 40))
    return [{"input": words, "input_lengths": np.array([40]), "scales": np.array([0, 1, 0], np.float32)}]


# (batch, words, words in the cache): one word, some words, and one with an empty cache.
_DECODING = ((1, 1, 5), (2, 3, 9), (2, 1, 0))


def _cached(heads: int, size: int, layers: int = 2, runs: tuple[tuple[int, int, int], ...] = _DECODING) -> list[Inputs]:
    """Words after a cache of earlier ones."""
    generator = np.random.default_rng(7)
    batches: list[Inputs] = []
    for batch, words, past in runs:
        values: Inputs = {
            "input_ids": generator.integers(1, 400, (batch, words)),
            "attention_mask": np.ones((batch, past + words), np.int64),
        }
        for name in (f"past_{layer}_{kind}" for layer in range(layers) for kind in "kv"):
            values[name] = generator.standard_normal((batch, heads, past, size)).astype(np.float32)
        batches.append(values)
    return batches


def _limits() -> list[Inputs]:
    """The state that a greedy decoder starts from, and how many words it may make."""
    state = np.random.default_rng(8).standard_normal((1, 32)).astype(np.float32)
    return [{"state": state, "limit": np.array(5)}, {"state": -state, "limit": np.array(9)}]


def _floats(*batches: dict[str, tuple[int, ...]]) -> list[Inputs]:
    """Noise of the shape of each input."""
    generator = np.random.default_rng(9)
    return [
        {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for shapes in batches
    ]


def _noisy_latents() -> list[Inputs]:
    """Latent images at some step of a diffusion, and states of the words that describe them."""
    steps = ([500], [3, 981])
    images = _floats(
        {"x": (1, 4, 16, 16), "words": (1, 7, 24)},
        {"x": (2, 4, 8, 16), "words": (2, 5, 24)},
    )
    return [{**image, "steps": np.array(step)} for image, step in zip(images, steps, strict=True)]


def _points() -> list[Inputs]:
    """An image and points on it, inside (1) or outside (0) of what is wanted."""
    generator = np.random.default_rng(10)
    return [
        {
            "pixel_values": generator.standard_normal((1, 3, 64, 64)).astype(np.float32),
            "input_points": generator.uniform(0, 64, (1, 1, count, 2)).astype(np.float32),
            "input_labels": generator.integers(0, 2, (1, 1, count)),
        }
        for count in (3, 1)
    ]


def _translations() -> list[Inputs]:
    """Words written so far, and the states of those read, some of them padding."""
    batches = []
    read = _tokens(["attention_mask"], 400, (1, 7), (3, 12))
    written = _tokens(["input_ids"], 400, (1, 4), (3, 6))
    for number, (source, target) in enumerate(zip(read, written, strict=True)):
        mask = source["attention_mask"]
        states = np.random.default_rng(number).standard_normal((*mask.shape, 64)).astype(np.float32)
        batches.append(
            {
                "decoder_input_ids": target["input_ids"],
                "encoder_hidden_states": states,
                "encoder_attention_mask": mask,
            }
        )
    return batches


def _sentences() -> list[Inputs]:
    """Word numbers below 100."""
    generator = np.random.default_rng(11)
    return [{"ids": generator.integers(0, 100, shape)} for shape in ((1, 5), (3, 11))]


_BERT = ["input_ids", "attention_mask", "token_type_ids"]
_GPT2 = ["input_ids", "attention_mask"]
_PIXELS = (1, 3, 224, 224)


_WORDS = ((1, 7), (3, 20))
_IMAGES = ((1, 3, 32, 32), (3, 3, 48, 33))
_SQUARE = ((1, 3, 64, 64), (2, 3, 64, 64))
# What the exported small models take, by name without the exporter.
_EXPORTED: dict[str, Callable[[], list[Inputs]]] = {
    "bert-small": partial(_tokens, _BERT, 400, *_WORDS),
    "convnext-small": partial(_noise, "pixel_values", (1, 3, 32, 32), (3, 3, 32, 32)),
    "decoder-small": _limits,
    "denoiser-small": _noisy_latents,
    "detector-small": partial(_noise, "x", (1, 3, 64, 64), (2, 3, 48, 96)),
    "detr-small": partial(_noise, "pixel_values", *_SQUARE),
    "distilbert-small": partial(_tokens, _GPT2, 400, *_WORDS),
    "efficientnet-small": partial(_noise, "pixel_values", *_SQUARE),
    "experts-small": partial(_floats, {"x": (1, 5, 32)}, {"x": (3, 9, 32)}),
    "gpt2-small": partial(_tokens, _GPT2, 400, *_WORDS),
    "gpt2-cached-small": partial(_cached, 2, 32),
    "gru-small": _sentences,
    "llama-small": partial(_tokens, _GPT2, 400, *_WORDS),
    "llama-cached-small": partial(_cached, 2, 16),
    "lstm-small": _sentences,
    "mobilenet-small": partial(_noise, "x", *_IMAGES),
    "mobilenet-v3-small": partial(_noise, "x", *_IMAGES),
    "recogniser-small": partial(_noise, "x", (1, 1, 32, 48), (1, 1, 32, 80)),
    "recogniser-lines-small": partial(_noise, "x", (1, 1, 32, 48), (3, 1, 32, 48)),
    "resnet-small": partial(_noise, "x", *_IMAGES),
    "sam-small": _points,
    "scan-small": partial(_floats, {"x": (1, 5, 32)}, {"x": (3, 9, 32)}),
    "swin-small": partial(_noise, "pixel_values", (1, 3, 32, 32), (3, 3, 32, 32)),
    "t5-encoder-small": partial(_tokens, _GPT2, 400, *_WORDS),
    "t5-decoder-small": _translations,
    "unet-small": partial(_noise, "x", (1, 3, 32, 48), (2, 3, 16, 32)),
    "upscaler-small": partial(_noise, "x", (1, 3, 16, 16), (2, 3, 12, 20)),
    "vit-small": partial(_noise, "pixel_values", (1, 3, 48, 48), (3, 3, 48, 48)),
    "wav2vec-small": partial(_floats, {"input_values": (1, 800)}, {"input_values": (2, 1033)}),
    "whisper-small": partial(_floats, {"input_features": (1, 80, 40)}, {"input_features": (3, 80, 40)}),
}
# What the full-size exports take; shapes that the emulator does in a minute or two.
_FULL: dict[str, Callable[[], list[Inputs]]] = {
    "resnet-50": partial(_noise, "x", _PIXELS),
    "mobilenet-v2": partial(_noise, "x", _PIXELS),
    "bert-base": partial(_tokens, _BERT, 30000, (1, 6), (2, 9)),
    "gpt2": partial(_tokens, _GPT2, 50000, (1, 5)),
    "gpt2-cached": partial(_cached, 12, 64, 12, ((1, 1, 7), (2, 2, 3))),
    "unet": partial(_noise, "x", (1, 3, 32, 48)),
    "vit-b16": partial(_noise, "pixel_values", _PIXELS),
}
_IN_SUITE = (
    "gpt2-cached", "llama-cached", "vit", "mobilenet", "upscaler", "recogniser", "decoder", "detector", "experts",
)  # fmt: skip


def exported(path: Path) -> Model:
    """A file that benchmarks/export_models.py wrote with `--small`: `<name>-<exporter>-<opset>.onnx`."""
    name = next(name for name in sorted(_EXPORTED, key=len, reverse=True) if path.stem.startswith(name))
    return Model(lambda: fill(onnx.load(path)), _EXPORTED[name], 0.02)


def full(path: Path) -> Model:
    """A file that benchmarks/export_models.py wrote with `--full`: `<name>.onnx`, with its weights."""
    return Model(lambda: path, _FULL[path.stem], 10.0)


def _small(chosen: bool) -> Iterator[tuple[str, Model]]:
    """The exported models that the test suite runs, or the others."""
    for path in sorted(GRAPHS.glob("*.onnx")):
        family, _, exporter = path.stem.partition("-small-")
        first = exporter == "dynamo" or not (GRAPHS / f"{family}-small-dynamo.onnx").exists()
        both = family in ("bert", "gpt2", "unet", "resnet")
        if (both or (family in _IN_SUITE and first)) == chosen:
            yield path.stem, exported(path)


# onnxruntime's 8-bit LSTM rounds its hidden state before every step, ours does not, and roundings of activations flip.
ROUNDED = 1e-2

MODELS: dict[str, Model] = {
    "magika": Model(partial(fetch, "magika"), _bytes, 0.7),
    "ppocr-classifier": Model(
        partial(fetch, "ppocr-classifier"),
        partial(_page, "x", 2, -1, (1, 3, 48, 192), (2, 3, 48, 96)),
        0.03,
    ),
    "ppocr-recogniser": Model(
        partial(fetch, "ppocr-recogniser"), partial(_page, "x", 2, -1, (1, 3, 48, 64), (2, 3, 48, 40)), 0.3
    ),
    "ppocr-detector": Model(
        partial(fetch, "ppocr-detector"), partial(_page, "x", 4, -2, (1, 3, 96, 160), (2, 3, 64, 64)), 0.2
    ),
    "ddddocr-detector": Model(
        partial(fetch, "ddddocr-detector"), partial(_page, "images", 255, 0, (1, 3, 416, 416)), 6.4
    ),
    "minilm-int8": Model(partial(fetch, "minilm-int8"), partial(_tokens, _BERT, 30000, (1, 9), (2, 16)), 0.2),
    "silero-ifless": Model(partial(fetch, "silero-ifless"), _speech, 0.01),
    "silero-two-rates": Model(partial(fetch, "silero-two-rates"), _two_rates, 0.01),
    "voicefilter-int8": Model(partial(fetch, "voicefilter-int8"), _spectra, 0.02, ROUNDED),
    "ddddocr-int8": Model(
        partial(fetch, "ddddocr-int8"), partial(_page, "input1", 2, -1, (1, 1, 64, 48), (1, 1, 64, 80)), 0.6, ROUNDED
    ),
    "light-resnet50": Model(_light("resnet50"), partial(_noise, "gpu_0/data_0", _PIXELS), 8.2),
    "light-squeezenet": Model(_light("squeezenet"), partial(_noise, "data_0", _PIXELS), 0.8),
    "light-shufflenet": Model(_light("shufflenet"), partial(_noise, "gpu_0/data_0", _PIXELS), 0.3),
    "light-densenet121": Model(_light("densenet121"), partial(_noise, "data_0", _PIXELS), 5.7),
    **dict(_small(True)),
}

# What takes too long for the test suite: `python -m benchmarks.models` compiles and compares these, too.
LARGE: dict[str, Model] = {
    "silero-branches": Model(partial(fetch, "silero-branches"), _speech, 0.01),
    "silero-sequence": Model(partial(fetch, "silero-sequence"), _speech_in_a_row, 0.01),
    "titles-encoder": Model(partial(fetch, "titles-encoder"), partial(_tokens, _GPT2, 30000, (1, 9), (2, 16)), 0.6),
    "piper-voice": Model(partial(fetch, "piper-voice"), _phonemes, 5.0),
    "light-alexnet": Model(_light("bvlc_alexnet"), partial(_noise, "data_0", _PIXELS), 1.4),
    "light-zfnet": Model(_light("zfnet512"), partial(_noise, "gpu_0/data_0", _PIXELS), 3.0),
    "light-inception-v1": Model(_light("inception_v1"), partial(_noise, "data_0", _PIXELS), 3.0),
    "light-inception-v2": Model(_light("inception_v2"), partial(_noise, "data_0", _PIXELS), 4.1),
    "light-vgg19": Model(_light("vgg19"), partial(_noise, "data_0", _PIXELS), 39.0),
    **dict(_small(False)),
}
