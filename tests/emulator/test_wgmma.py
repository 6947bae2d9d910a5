"""wgmma in every type and operand layout, against products in float64.

The kernels are PTX made here: they copy an image of shared memory, run one product and store the accumulators. Images
are laid out as tensor copies write them (rows of one swizzle span), which is how descriptors are used.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tests.emulator.harness import Runner

SPANS = {0: 16, 1: 128, 2: 64, 3: 32}
DTYPES = {
    "f16": "f2", "bf16": ml_dtypes.bfloat16, "tf32": "f4", "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2, "s8": "i1", "u8": "u1",
}  # fmt: skip
IMAGE = 65536
B_START = 32768


def _names(letter: str, count: int) -> str:
    return "{" + ", ".join(f"%{letter}{i}" for i in range(count)) + "}"


def kernel(instruction: str, accumulators: int, a_registers: int, tail: str) -> str:
    """D = wgmma(D, A, B): arguments image, D, A registers, two descriptors, scale-d."""
    loads = "".join(f"ld.global.b32 %d{i}, [%rd5+{4 * i}];" for i in range(accumulators)) + "".join(
        f"ld.global.b32 %a{i}, [%rd7+{4 * i}];" for i in range(a_registers)
    )
    stores = "".join(f"st.global.b32 [%rd5+{4 * i}], %d{i};" for i in range(accumulators))
    left = _names("a", a_registers) if a_registers else "%rd3"
    return f""".version 8.4
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 image, .param .u64 d, .param .u64 a, .param .u64 da, .param .u64 db, .param .u32 scale) {{
.reg .b32 %r<8>, %d<{accumulators}>, %a<4>; .reg .b64 %rd<10>; .reg .pred %p<3>;
.shared .align 1024 .b8 s[{IMAGE}];
mov.u32 %r0, %tid.x; ld.param.u64 %rd1, [image]; ld.param.u64 %rd2, [d]; ld.param.u64 %rd3, [da];
ld.param.u64 %rd4, [db]; ld.param.u64 %rd6, [a]; ld.param.u32 %r1, [scale];
mov.u32 %r2, s; shl.b32 %r3, %r0, 2;
COPY: cvt.u64.u32 %rd8, %r3; add.u64 %rd8, %rd1, %rd8; ld.global.b32 %r4, [%rd8]; add.u32 %r5, %r2, %r3;
st.shared.b32 [%r5], %r4; add.u32 %r3, %r3, 512; setp.lt.u32 %p0, %r3, {IMAGE}; @%p0 bra COPY;
fence.proxy.async.shared::cta; bar.sync 0; setp.ge.u32 %p2, %r0, 128; @%p2 bra END;
mad.wide.u32 %rd5, %r0, {4 * accumulators}, %rd2; mad.wide.u32 %rd7, %r0, {4 * a_registers}, %rd6; {loads}
setp.ne.b32 %p1, %r1, 0;
wgmma.fence.sync.aligned;
{instruction} {_names("d", accumulators)}, {left}, %rd4, %p1{tail};
wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; {stores} END: ret; }}"""


def place(image: np.ndarray, matrix: np.ndarray, start: int, swizzle: int, along_rows: bool) -> int:
    """Write an operand [rows, k] into the image; gives its descriptor.

    K-major: rows of one span; with `along_rows` the rows are k and panels of one span follow each other.
    """
    table = matrix.T if along_rows else matrix
    data = np.ascontiguousarray(table).view("u1")
    outer, inner = data.shape
    span = SPANS[swizzle]
    if swizzle:
        panel = -(-outer // 8) * 8 * span
        leading, stride = panel, 8 * span
    else:
        # Core matrices of 8 rows of 16 bytes; those of one row of the table lie 128 bytes apart, 8 rows further `down`.
        panel, down = 128, 128 * (inner // 16)
        leading, stride = (down, panel) if along_rows else (panel, down)
    for row in range(outer):
        for piece in range(inner // 16):
            column = 16 * piece
            if swizzle:
                address = start + column // span * panel + row * span + column % span
                address ^= (address >> 7 & (span // 16 - 1)) << 4
            else:
                address = start + row // 8 * down + piece * panel + row % 8 * 16
            image[address : address + 16] = data[row, column : column + 16]
    return start >> 4 | (leading >> 4) << 16 | (stride >> 4) << 32 | swizzle << 62


def operands(type: str, rows: int, depth: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if type in ("s8", "u8"):
        limits = np.iinfo(DTYPES[type])
        return random.integers(limits.min, limits.max + 1, (rows, depth)).astype(DTYPES[type])
    values = random.standard_normal((rows, depth)).astype("f4").astype(DTYPES[type])
    if type == "tf32":
        values = (values.view("u4") & np.uint32(0xFFFFE000)).view("f4")
    return values


def lanes(columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of accumulator j of thread i, [128, columns / 2]."""
    thread, register = np.arange(128)[:, None], np.arange(columns // 2)
    lane = thread % 32
    row = thread // 32 * 16 + lane // 4 + register // 2 % 2 * 8
    return row, register // 4 * 8 + lane % 4 * 2 + register % 2


def run(
    types: tuple[str, str, str], columns: int, swizzles: tuple[int, int] = (1, 1),
    transposed: tuple[bool, bool] = (False, False), in_registers: bool = False, scale: int = 1,
    signs: tuple[int, int] = (1, 1), satfinite: bool = False, initial: int = 0, threads: int = 128,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The product by the emulator and in float64, both [64, columns]."""
    d, left, right = types
    depth = 32 // np.dtype(DTYPES[left]).itemsize
    a, b = operands(left, 64, depth, 1), operands(right, columns, depth, 2)
    image = np.zeros(IMAGE, "u1")
    descriptors = [place(image, a, 0, swizzles[0], transposed[0]), place(image, b, B_START, swizzles[1], transposed[1])]
    c = np.random.default_rng(3).integers(-9, 9, (64, columns)) + initial
    row, column = lanes(columns)
    storage = {"f32": "f4", "f16": "f2", "s32": "i4"}[d]
    packed = np.ascontiguousarray(c[row, column].astype(storage)).view("u4")
    flags = [f", {sign}" for sign in signs] if d != "s32" else []
    if left in ("f16", "bf16"):
        flags += [f", {int(flag)}" for flag in transposed[1 if in_registers else 0 :]]
    words = np.ascontiguousarray(a).view("u4")
    thread = np.arange(128)[:, None]
    rows = thread // 32 * 16 + thread % 32 // 4 + np.array([0, 8, 0, 8])
    registers = words[rows, thread % 4 + np.array([0, 0, 4, 4])] if in_registers else np.zeros((128, 4), "u4")
    name = f"wgmma.mma_async.sync.aligned.m64n{columns}k{depth}{'.satfinite' if satfinite else ''}.{'.'.join(types)}"
    text = kernel(name, packed.shape[1], 4 if in_registers else 0, "".join(flags))
    got = Runner(text)(
        "k", image, packed, registers, *map(np.int64, np.array(descriptors, "u8").view("i8")), scale, block=(threads,)
    )
    result = np.zeros((64, columns))
    result[row, column] = got[1].view(storage)
    product = a.astype("f8") @ b.astype("f8").T * signs[0] * signs[1]
    return result, product + (c.astype("f8") if scale else 0)


FORMS = [
    ("f32", "f16", "f16"), ("f32", "bf16", "bf16"), ("f32", "tf32", "tf32"), ("f32", "e4m3", "e5m2"),
    ("f32", "e5m2", "e4m3"), ("s32", "s8", "s8"), ("s32", "u8", "s8"), ("s32", "s8", "u8"), ("s32", "u8", "u8"),
]  # fmt: skip


@pytest.mark.parametrize("in_registers", [False, True])
@pytest.mark.parametrize("types", FORMS, ids=".".join)
def test_every_type(types: tuple[str, str, str], in_registers: bool) -> None:
    got, expected = run(types, 32, in_registers=in_registers)
    # At most 32 exact products are summed in f32, of size about 4 or a few hundred times that: units of 2^-24 of them.
    atol = 0.0 if types[0] == "s32" else 2e-5 * max(1.0, np.abs(expected).max() / 30)
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("left", ["f16", "e4m3"])
def test_accumulators_of_halves(left: str) -> None:
    got, expected = run(("f16", left, left), 16)
    np.testing.assert_allclose(got, expected, rtol=2**-11, atol=2**-14)  # one rounding to 11 bits


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("swizzles", [(0, 0), (1, 1), (2, 2), (3, 3), (1, 3), (0, 2)])
def test_layouts(transposed: tuple[bool, bool], swizzles: tuple[int, int]) -> None:
    got, expected = run(("f32", "f16", "f16"), 64, swizzles, transposed)
    np.testing.assert_allclose(got, expected, atol=2e-5)  # 16 products of size about 4, summed in f32


@pytest.mark.parametrize("columns", [8, 24, 136, 256])
def test_widths(columns: int) -> None:
    got, expected = run(("f32", "bf16", "bf16"), columns)
    np.testing.assert_allclose(got, expected, atol=2e-5)  # as above


@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("scale", [0, 1])
def test_signs_and_scale(signs: tuple[int, int], scale: int) -> None:
    got, expected = run(("f32", "f16", "f16"), 16, signs=signs, scale=scale)
    np.testing.assert_allclose(got, expected, atol=2e-5)  # as above


def test_saturation() -> None:
    top = (1 << 31) - 1
    got, expected = run(("s32", "u8", "u8"), 16, satfinite=True, initial=top - 100_000)
    assert (expected > top).any() and (got == np.minimum(expected, top)).all()


def test_a_warpgroup_beside_a_single_warp() -> None:
    """As in kernels whose producer is one warp."""
    got, expected = run(("f32", "f16", "f16"), 64, threads=160)
    np.testing.assert_allclose(got, expected, atol=2e-5)  # as above
