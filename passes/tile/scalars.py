"""Scalar pieces shared by the tile programs: accumulation types, neutral elements, combination.

In: dtype names and reduction kinds. Out: `arith` operations and attributes. Floats narrower than f32 accumulate in
f32, 8-bit integers in i32.
"""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir
from mlir.dialects import arith

from ...dialects.narrow import is_narrow
from ...dialects.scalar import Scalar
from ...dialects.tensors import scalar_type

_NARROW_FLOATS = ("f16", "bf16")


def accumulator(element: str) -> str:
    """The dtype in which elements of `element` are combined: i1 as 0 and 1, since threads exchange whole bytes."""
    if element in _NARROW_FLOATS:
        return "f32"
    return "i32" if element == "i1" else element


def is_float(element: str) -> bool:
    """True for the floating-point dtypes that kernels compute with, by name."""
    return element in ("f64", "f32", "f16", "bf16")


def neutral(kind: str, element: str) -> ir.Attribute:
    """The attribute of the neutral element of a reduction kind."""
    type_ = scalar_type(element)
    if is_float(element):
        value = {"sum": 0.0, "product": 1.0, "max": float("-inf"), "min": float("inf")}[kind]
        return ir.FloatAttr.get(type_, value)
    width = ir.IntegerType(type_).width
    low, high = (0, -1) if element.startswith("ui") else (-(1 << (width - 1)), (1 << (width - 1)) - 1)
    if width == 1:
        low, high = 0, -1
    return ir.IntegerAttr.get(type_, {"sum": 0, "product": 1, "max": low, "min": high}[kind])


def reduce_kind(kind: str, element: str) -> str:
    """The kind as tile.reduce spells it: unsigned orderings have names of their own."""
    return f"u{kind}" if kind in ("max", "min") and (element.startswith("ui") or element == "i1") else kind


_COMBINE: dict[tuple[str, bool], Callable[[ir.Value, ir.Value], ir.Value]] = {
    ("sum", True): arith.addf,
    ("product", True): arith.mulf,
    ("max", True): arith.maximumf,
    ("min", True): arith.minimumf,
    ("sum", False): arith.addi,
    ("product", False): arith.muli,
    ("max", False): arith.maxsi,
    ("min", False): arith.minsi,
    ("umax", False): arith.maxui,
    ("umin", False): arith.minui,
}


def combine(kind: str, element: str, left: ir.Value, right: ir.Value) -> ir.Value:
    """One step of a reduction."""
    return _COMBINE[(reduce_kind(kind, element), is_float(element))](left, right)


def convert(value: ir.Value, source: str, target: str) -> ir.Value:
    """Widen or narrow between accumulator and storage types of the same family; bytes become what they stand for."""
    if source == target:
        return value
    if is_narrow(source):
        return Scalar(value, source).cast(target).value
    type_ = scalar_type(target)
    if is_float(source):
        wider = ir.FloatType(type_).width > ir.FloatType(value.type).width
        return arith.extf(type_, value) if wider else arith.truncf(type_, value)
    own, wanted = ir.IntegerType(value.type).width, ir.IntegerType(type_).width
    if own == wanted:
        return value
    if own > wanted:
        return arith.trunci(type_, value)
    return arith.extui(type_, value) if source.startswith("ui") or source == "i1" else arith.extsi(type_, value)
