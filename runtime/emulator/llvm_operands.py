"""Operands of wgmma for the fast engine: from shared memory, as a descriptor lays them out, to rows of floats.

In: a descriptor, a number of eight rows (of M or N) of it. Out: their elements as f32 in a buffer. Why: what is widened
once is multiplied many times, and in shared memory the pieces of a row lie apart.

A descriptor is what `numpy_warpgroup.py` says. Its pieces of 16 bytes hold elements that follow each other along k, or
along the rows of a transposed operand.
"""

from __future__ import annotations

from dataclasses import dataclass

from .llvm_module import load_field
from .llvm_values import Code, Value, constant_vector

ROWS = 8
"""Rows of one step."""
_PIECE = 16
_ADDRESSES_AT = 8192
"""Where in the scratch memory addresses lie for a moment, behind the buffers of elements."""
DEPTH_BYTES = 32
WIDTHS = {"f16": 16, "bf16": 16, "tf32": 32, "e4m3": 8, "e5m2": 8, "s8": 8, "u8": 8}
"""Bits of an element."""


def emit(code: Code, text: str) -> str:
    """One instruction; gives its SSA name."""
    name = code.name()
    code.line(f"{name} = {text}")
    return name


def halves(code: Code, bits: str, count: int) -> str:
    """Patterns of f16 as f32."""
    floats = emit(code, f"bitcast <{count} x i16> {bits} to <{count} x half>")
    return emit(code, f"fpext <{count} x half> {floats} to <{count} x float>")


def decoded(code: Code, type: str, bits: str, count: int) -> str:
    """`count` elements of an operand as f32, which holds every one of them exactly."""
    floats, words, width = f"<{count} x float>", f"<{count} x i32>", WIDTHS[type]
    given = f"<{count} x i{width}> {bits}"
    if type == "f16":
        return halves(code, bits, count)
    if type == "bf16":
        high = emit(code, f"shl {words} {emit(code, f'zext {given} to {words}')}, splat (i32 16)")
        return emit(code, f"bitcast {words} {high} to {floats}")
    if type == "tf32":
        kept = emit(code, f"and {given}, splat (i32 -8192)")
        return emit(code, f"bitcast {words} {kept} to {floats}")
    if type in ("s8", "u8"):
        wide = emit(code, f"{'sext' if type == 's8' else 'zext'} {given} to {words}")
        return emit(code, f"sitofp {words} {wide} to {floats}")
    return _decoded_float8(code, type, given, count)


def _decoded_float8(code: Code, type: str, given: str, count: int) -> str:
    """By way of halves, of which e5m2 is the upper byte and e4m3 the same with eight more in the exponent."""
    floats, shorts = f"<{count} x float>", f"<{count} x i16>"
    wide = emit(code, f"zext {given} to {shorts}")
    if type == "e5m2":
        half = emit(code, f"shl {shorts} {wide}, splat (i16 8)")
        return halves(code, half, count)
    number = emit(code, f"and {shorts} {wide}, splat (i16 127)")
    sign = emit(code, f"shl {shorts} {emit(code, f'and {shorts} {wide}, splat (i16 128)')}, splat (i16 8)")
    half = emit(code, f"or {shorts} {sign}, {emit(code, f'shl {shorts} {number}, splat (i16 7)')}")
    scaled = emit(code, f"fmul {floats} {halves(code, half, count)}, splat (float 256.0)")
    nan = emit(code, f"icmp eq {shorts} {number}, splat (i16 127)")
    return emit(code, f"select <{count} x i1> {nan}, {floats} splat (float 0x7FF8000000000000), {floats} {scaled}")


@dataclass(frozen=True, slots=True)
class Fields:
    """A decoded descriptor: SSA names of i32, in bytes; `phases` is one less than the pieces of a span."""

    start: str
    leading: str
    stride: str
    base: str
    span: str
    phases: str
    swizzled: str
    pieces_shift: str


def decode(code: Code, descriptor: str) -> Fields:
    """The fields of a descriptor (i64)."""

    def field(shift: int, mask: int) -> str:
        moved = emit(code, f"lshr i64 {descriptor}, {shift}")
        return emit(code, f"trunc i64 {emit(code, f'and i64 {moved}, {mask}')} to i32")

    start, leading, stride = (emit(code, f"shl i32 {field(shift, 0x3FFF)}, 4") for shift in (0, 16, 32))
    swizzle = field(62, 3)
    swizzled = emit(code, f"icmp ne i32 {swizzle}, 0")
    # Codes 1, 2, 3 are spans of 128, 64, 32 bytes; without a swizzle a span is one piece.
    shift = emit(code, f"select i1 {swizzled}, i32 {emit(code, f'sub i32 4, {swizzle}')}, i32 0")
    pieces = emit(code, f"shl i32 1, {shift}")
    span = emit(code, f"shl i32 {pieces}, 4")
    return Fields(start, leading, stride, field(49, 7), span, emit(code, f"sub i32 {pieces}, 1"), swizzled, shift)


def _addresses(code: Code, fields: Fields, plain: str, count: int) -> str:
    """Addresses of pieces after the swizzle."""
    vector = f"<{count} x i32>"
    line = emit(code, f"lshr {vector} {plain}, splat (i32 7)")
    phase = emit(code, f"sub {vector} {line}, {_splat(code, fields.base, count)}")
    phase = emit(code, f"and {vector} {phase}, {_splat(code, fields.phases, count)}")
    return emit(code, f"xor {vector} {plain}, {emit(code, f'shl {vector} {phase}, splat (i32 4)')}")


def _splat(code: Code, scalar: str, count: int) -> str:
    vector = f"<{count} x i32>"
    first = emit(code, f"insertelement {vector} poison, i32 {scalar}, i64 0")
    return emit(code, f"shufflevector {vector} {first}, {vector} poison, <{count} x i32> zeroinitializer")


def _along_depth(code: Code, fields: Fields, number: str) -> str:
    """Places of the pieces of rows 8 `number` to 8 `number` + 7: of all rows the first along k, then the second."""
    vector = "<16 x i32>"
    rows = constant_vector("i32", [row for _ in range(2) for row in range(ROWS)])
    second = constant_vector("i32", [piece for piece in range(2) for _ in range(ROWS)])
    first = emit(code, f"add i32 {fields.start}, {emit(code, f'mul i32 {fields.stride}, {number}')}")
    apart = emit(code, f"select i1 {fields.swizzled}, i32 {_PIECE}, i32 {fields.leading}")
    place = emit(code, f"mul {vector} {rows}, {_splat(code, fields.span, 16)}")
    place = emit(code, f"add {vector} {place}, {_splat(code, first, 16)}")
    further = emit(code, f"mul {vector} {second}, {_splat(code, apart, 16)}")
    return _addresses(code, fields, emit(code, f"add {vector} {place}, {further}"), 16)


def _along_rows(code: Code, fields: Fields, number: str) -> str:
    """Places of piece `number` of each k, 0 to 15."""
    vector = "<16 x i32>"
    low = constant_vector("i32", [k % 8 for k in range(16)])
    high = constant_vector("i32", [k // 8 for k in range(16)])
    across = emit(code, f"select i1 {fields.swizzled}, i32 {fields.leading}, i32 {fields.stride}")
    down = emit(code, f"select i1 {fields.swizzled}, i32 {fields.stride}, i32 {fields.leading}")
    inner = emit(code, f"shl i32 {emit(code, f'and i32 {number}, {fields.phases}')}, 4")
    outer = emit(code, f"mul i32 {emit(code, f'lshr i32 {number}, {fields.pieces_shift}')}, {across}")
    first = emit(code, f"add i32 {fields.start}, {emit(code, f'add i32 {inner}, {outer}')}")
    place = emit(code, f"mul {vector} {low}, {_splat(code, fields.span, 16)}")
    place = emit(code, f"add {vector} {place}, {emit(code, f'mul {vector} {high}, {_splat(code, down, 16)}')}")
    return _addresses(code, fields, emit(code, f"add {vector} {place}, {_splat(code, first, 16)}"), 16)


@dataclass(frozen=True, slots=True)
class Operand:
    """Eight rows at a time of an operand of `type`: in the buffer row after row, or k after k of a transposed one."""

    type: str
    transposed: bool

    @property
    def depth(self) -> int:
        """Elements along k."""
        return DEPTH_BYTES * 8 // WIDTHS[self.type]

    def place(self, k: int, row: int) -> int:
        """Index in the buffer of an element."""
        return ROWS * k + row if self.transposed else self.depth * row + k

    def load(self, code: Code, fields: Fields, number: str, buffer: str, wrong: str) -> None:
        """Fill the buffer with eight rows; goes on at the block `wrong` when they leave shared memory."""
        address = (_along_rows if self.transposed else _along_depth)(code, fields, number)
        limit = load_field(code, "shared_limit", "i64").text
        last = emit(code, f"trunc i64 {emit(code, f'sub i64 {limit}, {_PIECE}')} to i32")
        beyond = emit(code, f"icmp sgt <16 x i32> {address}, {_splat(code, last, 16)}")
        bits = emit(code, f"bitcast <16 x i1> {beyond} to i16")
        inside = emit(code, f"icmp eq i16 {bits}, 0")
        label = code.name()[1:]
        code.line(f"br i1 {inside}, label %inside{label}, label %{wrong}")
        code.label(f"inside{label}")
        shared = load_field(code, "shared", "ptr").text
        # By way of memory: taking a vector apart keeps the ports busy that multiply.
        places = emit(code, f"getelementptr i8, ptr {load_field(code, 'scratch', 'ptr').text}, i64 {_ADDRESSES_AT}")
        code.line(f"store <16 x i32> {address}, ptr {places}, align 64")
        pieces = []
        for index in range(16):
            entry = emit(code, f"getelementptr i32, ptr {places}, i64 {index}")
            place = emit(code, f"load i32, ptr {entry}, align 4")
            pointer = emit(code, f"getelementptr i8, ptr {shared}, i32 {place}")
            pieces.append(emit(code, f"load <16 x i8>, ptr {pointer}, align 16"))
        (self._store_turned if self.transposed else self._store_rows)(code, pieces, buffer)

    def _store_turned(self, code: Code, pieces: list[str], buffer: str) -> None:
        """Pieces of eight rows of one k each."""
        for k, piece in enumerate(pieces):
            bits = emit(code, f"bitcast <16 x i8> {piece} to <8 x i16>")
            _store(code, buffer, ROWS * k, decoded(code, self.type, bits, ROWS), ROWS)

    def _store_rows(self, code: Code, pieces: list[str], buffer: str) -> None:
        """Two pieces of each row."""
        whole = constant_vector("i32", range(2 * _PIECE))
        for row in range(ROWS):
            pair = f"<16 x i8> {pieces[row]}, <16 x i8> {pieces[row + ROWS]}"
            both = emit(code, f"shufflevector {pair}, <32 x i32> {whole}")
            bits = emit(code, f"bitcast <32 x i8> {both} to <{self.depth} x i{WIDTHS[self.type]}>")
            _store(code, buffer, self.depth * row, decoded(code, self.type, bits, self.depth), self.depth)


def _store(code: Code, buffer: str, index: int, floats: str, count: int) -> None:
    place = emit(code, f"getelementptr float, ptr {buffer}, i64 {index}")
    code.line(f"store <{count} x float> {floats}, ptr {place}, align 16")


def words_of_register(code: Code, type: str, register: Value, element: int) -> str:
    """Element number `element` of a packed register of A, as 32 floats."""
    width = WIDTHS[type]
    moved = code.binary("lshr", register, code.integer("i32", width * element)) if element else register
    return decoded(code, type, code.resize(moved, f"i{width}").text, 32)
