"""Export standard architectures to ONNX with torch: small ones for the tests, full ones for the benchmarks.

In: nothing but torch and transformers. Out: `--small DIR` writes two-layer models without their weights
(tests/support/seeded_weights.py fills them in), `--full DIR` writes full-size models with random weights; with `--half`
in f16 from inputs to outputs, as torch runs them beside our engines on a GPU.

    pip install torch==2.13.0 transformers onnxscript    # not needed by anything else here
    python -m benchmarks.export_models --small tests/models/graphs
    python -m benchmarks.export_models --small DIR --exporters dynamo-17 dynamo-23 legacy-20    # for benchmarks.models

What an exporter cannot do is printed and written to `not_exported.json` in the same folder, with the reason.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnx.checker
import torch
from onnx import version_converter
from tests.support.seeded_weights import hollow
from torch import nn

from .architectures.detection import TRANSLATIONS, Detector
from .architectures.exports import Attributes, Export, image
from .architectures.images import MOBILENET, Denoiser, UNet, Upscaler, mobilenet, mobilenet_v3, resnet
from .architectures.language import WithCache, bert, distilbert, gpt2, llama, t5_decoder, t5_encoder
from .architectures.perception import convnext, detr, efficientnet, sam, swin, vit, wav2vec, whisper_encoder
from .architectures.sequences import Experts, GreedyDecoder, SelectiveScan, Tagger, TextRecogniser

EXPORTERS = {"dynamo": 20, "legacy": 17}  # opsets of the committed files; "dynamo-23" is the same exporter at opset 23


def recogniser(width: int, hidden: int, classes: int) -> Export:
    """Lines of text, 32 high and of any length."""
    make = lambda: TextRecogniser(width, hidden, classes)  # noqa: E731
    return Export(make, {"x": torch.randn(1, 1, 32, 48)}, {"x": {3: "width"}}, ["y"])


def line_recogniser(width: int, hidden: int, classes: int) -> Export:
    """Any number of lines of one length: torch 2.13's dynamo cannot unroll a GRU whose length is a quotient."""
    lines = replace(recogniser(width, hidden, classes), dynamic={"x": {0: "batch"}}, exporters=("dynamo",))
    return replace(lines, inputs={"x": torch.randn(2, 1, 32, 48)})


def decoder(words: int, width: int) -> Export:
    """Scripted: the number of words and the end word decide how often its loop runs."""
    make = lambda: torch.jit.script(GreedyDecoder(words, width))  # noqa: E731
    inputs = {"state": torch.randn(1, width), "limit": torch.tensor(5)}
    return Export(make, inputs, {"state": {}, "limit": {}}, ["total", "count"], exporters=("legacy",))


def tagger(kind: type[nn.LSTM | nn.GRU], words: int, width: int) -> Export:
    """A class for each word of sentences."""
    ids = torch.ones(2, 6, dtype=torch.int64)
    return Export(lambda: Tagger(kind, words, width, 9), {"ids": ids}, {"ids": {0: "batch", 1: "sequence"}}, ["y"])


def states(make: type[nn.Module], *sizes: int) -> Export:
    """A block of a language model: [batch, sequence, 32] to the same."""
    axes = {0: "batch", 1: "sequence"}
    return Export(lambda: make(*sizes), {"x": torch.randn(2, 6, sizes[0])}, {"x": axes}, ["y"])


def denoiser(width: int, words: int) -> Export:
    """A latent image, the step of each, and the words that describe it."""
    inputs = {"x": torch.randn(2, 4, 16, 16), "steps": torch.tensor([3, 900]), "words": torch.randn(2, 7, words)}
    axes = {"x": {0: "batch", 2: "height", 3: "width"}, "steps": {0: "batch"}, "words": {0: "batch", 1: "sequence"}}
    return Export(lambda: Denoiser(width, words), inputs, axes, ["y"])


def detector(width: int, classes: int) -> Export:
    """An image of any size in steps of 16; how many boxes come out depends on what is in it."""
    axes = {0: "batch", 2: "height", 3: "width"}
    x = {"x": torch.randn(2, 3, 64, 64)}
    return Export(lambda: Detector(width, classes), x, {"x": axes}, ["boxes", "scores", "chosen"])


MOBILENET_SMALL = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 32, 1, 2))
MOBILENET_V3_SMALL = ((16, 16, 3, 2, True), (40, 24, 3, 2, False), (64, 24, 5, 1, True))
SMALL = {
    "bert-small": lambda: bert(2, 64, 2, 400),
    "convnext-small": lambda: convnext((16, 32), (1, 2), 32),
    "decoder-small": lambda: decoder(50, 32),
    "denoiser-small": lambda: denoiser(16, 24),
    "detector-small": lambda: detector(8, 5),
    "detr-small": lambda: detr(32, 2, 6, 64),
    "distilbert-small": lambda: distilbert(2, 64, 2, 400),
    "efficientnet-small": lambda: efficientnet(64),
    "experts-small": lambda: states(Experts, 32, 4),
    "gpt2-small": lambda: gpt2(2, 64, 2, 400),
    "gpt2-cached-small": lambda: gpt2(2, 64, 2, 400, cached=True),
    "gru-small": lambda: tagger(nn.GRU, 100, 32),
    "llama-small": lambda: llama(2, 64, 4, 2, 400),
    "llama-cached-small": lambda: llama(2, 64, 4, 2, 400, cached=True),
    "lstm-small": lambda: tagger(nn.LSTM, 100, 32),
    "mobilenet-small": lambda: image(lambda: mobilenet(MOBILENET_SMALL, 16, 64, 10), 32, spatial=True),
    "mobilenet-v3-small": lambda: image(lambda: mobilenet_v3(MOBILENET_V3_SMALL, 16, 10), 48, spatial=True),
    "recogniser-small": lambda: recogniser(16, 32, 40),
    "recogniser-lines-small": lambda: line_recogniser(16, 32, 40),
    "resnet-small": lambda: image(lambda: resnet((1, 1), 16, 10), 32, spatial=True),
    "sam-small": lambda: sam(32, 64),
    "scan-small": lambda: states(SelectiveScan, 32, 8),
    "swin-small": lambda: swin(32, (2, 2), (2, 4), 32, 4),
    "t5-encoder-small": lambda: t5_encoder(2, 64, 2, 400),
    "t5-decoder-small": lambda: t5_decoder(2, 64, 2, 400),
    "unet-small": lambda: image(lambda: UNet((8, 16, 32)), 32, spatial=True),
    "upscaler-small": lambda: image(lambda: Upscaler(1, 16, 8), 16, spatial=True),
    "vit-small": lambda: vit(2, 64, 2, 48),
    "wav2vec-small": lambda: wav2vec(2, 64, 2),
    "whisper-small": lambda: whisper_encoder(2, 64, 2, 20),
}
FULL = {
    "resnet-50": lambda: image(lambda: resnet((3, 4, 6, 3), 64, 1000), 224, spatial=False),
    "mobilenet-v2": lambda: image(lambda: mobilenet(MOBILENET, 32, 1280, 1000), 224, spatial=False),
    "bert-base": lambda: bert(12, 768, 12, 30522),
    "gpt2": lambda: gpt2(12, 768, 12, 50257),
    "gpt2-cached": lambda: gpt2(12, 768, 12, 50257, cached=True),
    "unet": lambda: image(lambda: UNet((64, 128, 256, 512, 1024)), 256, spatial=True),
    "vit-b16": lambda: vit(12, 768, 12, 224),
}


def export(what: Export, path: Path, exporter: str, opset: int) -> onnx.ModelProto:
    """Write one model to `path` with the new (dynamo) or the legacy exporter and read it back.

    Dynamo writes opsets from 18 on and converts to 17, where it can. The legacy exporter knows operators up to opset
    20: beyond, its file for 20 is converted with onnx's converter.
    """
    torch.manual_seed(0)
    model = what.make()
    model = model.eval()
    options: dict[str, Any] = {"input_names": list(what.inputs), "output_names": what.outputs}
    if exporter == "dynamo":
        named = [dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in what.dynamic.values()]
        shapes: Any = tuple(named)
        if isinstance(model, Attributes):
            shapes = (shapes,)  # its forward takes *inputs: one tuple
        elif isinstance(model, WithCache):
            shapes = (*shapes[:2], shapes[2:])
        options |= {"dynamo": True, "external_data": False, "dynamic_shapes": shapes, "opset_version": opset}
        options |= {"custom_translation_table": TRANSLATIONS, "verbose": False}
    else:
        options |= {"dynamo": False, "dynamic_axes": what.dynamic, "opset_version": min(opset, 20)}
    torch.onnx.export(model, tuple(what.inputs.values()), str(path), **options)
    written = onnx.load(path)
    if exporter == "legacy" and opset > 20:
        written = version_converter.convert_version(written, opset)
        onnx.save(written, path)
    onnx.checker.check_model(path)  # a converter may leave attributes of another opset
    return written


def in_half(what: Export) -> Export:
    """The same with weights, inputs and results in f16."""
    inputs = {name: value.half() if value.is_floating_point() else value for name, value in what.inputs.items()}
    return replace(what, make=lambda: what.make().half(), inputs=inputs)


def _small(written: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The file again without weights, the exporter's stack traces and types of values."""
    for node in written.graph.node:
        del node.metadata_props[:]
    del written.graph.value_info[:]
    onnx.save(hollow(written), path)
    return written


class Failures:
    """What could not be exported and why, kept in `not_exported.json`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "not_exported.json"
        self.reasons: dict[str, str] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def add(self, path: Path, error: BaseException) -> None:
        """Print it, keep it, and remove half a file."""
        path.unlink(missing_ok=True)
        first = str(error).strip().splitlines()[0]
        self.reasons[path.stem] = f"{type(error).__name__}: {first}"
        print(f"{path}  cannot be exported: {self.reasons[path.stem]}", flush=True)
        self.file.write_text(json.dumps(self.reasons, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Export every model of one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--small", type=Path, metavar="DIR", help="two-layer models without weights")
    group.add_argument("--full", type=Path, metavar="DIR", help="full-size models with weights")
    parser.add_argument("--exporters", nargs="+", metavar="NAME", help="dynamo, legacy, dynamo-23, ...")
    parser.add_argument("--half", action="store_true", help="in f16")
    parser.add_argument("names", nargs="*", help="only these")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = chosen.small or chosen.full
    folder.mkdir(parents=True, exist_ok=True)
    failures = Failures(folder)
    for name, make in (SMALL if chosen.small else FULL).items():
        if chosen.names and name not in chosen.names:
            continue
        for choice in chosen.exporters or (EXPORTERS if chosen.small else ["dynamo"]):
            exporter, _, opset = choice.partition("-")
            what = in_half(make()) if chosen.half else make()
            if exporter not in what.exporters:
                continue
            path = folder / (f"{name}-{choice}.onnx" if chosen.small else f"{name}.onnx")
            try:
                model = export(what, path, exporter, int(opset or EXPORTERS[exporter]))
            except Exception as error:  # exporters raise whatever their parts raise
                failures.add(path, error.__cause__ or error)
                continue
            if chosen.small:
                model = _small(model, path)
            print(f"{path}  {path.stat().st_size:,} bytes, {len(model.graph.node)} nodes", flush=True)


if __name__ == "__main__":
    main()
