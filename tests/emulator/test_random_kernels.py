"""Kernels of random instructions: both engines give the same bits.

Only what is exact, or rounded once the same way in both, is drawn: integers of 32 and 64 bits, f32 without minimum,
maximum and fma.rn, predicates, divergent branches, exchanges between lanes, shared memory.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from tests.emulator.harness import Runner

_THREADS = 96
_COUNTS = {"r": 8, "d": 4, "f": 6, "p": 4}
"""Registers: of 32 bits, of 64 bits, f32, predicates."""
_ANYWHERE = (
    *(f"{opcode}.{type} R, R, R" for opcode in ("add", "sub", "mul.lo", "mul.hi", "min", "max", "div", "rem")
      for type in ("s32", "u32")),
    *(f"{opcode}.b32 R, R, R" for opcode in ("and", "or", "xor")), "not.b32 R, R", "shl.b32 R, R, R",
    "shr.u32 R, R, R", "shr.s32 R, R, R", "shf.l.wrap.b32 R, R, R, R", "shf.r.clamp.b32 R, R, R, R",
    "prmt.b32 R, R, R, R", "lop3.b32 R, R, R, R, 0xE8", "bfe.u32 R, R, R, R", "bfe.s32 R, R, 7, 13",
    "bfi.b32 R, R, R, R, R", "popc.b32 R, R", "clz.b32 R, R", "brev.b32 R, R", "mad.lo.s32 R, R, R, R",
    "mad.hi.u32 R, R, R, R", "sad.u32 R, R, R, R", "abs.s32 R, R", "add.s32 R, R, CONSTANT", "xor.b32 R, R, CONSTANT",
    "mul.wide.s32 D, R, R", "mad.wide.u32 D, R, R, D", "add.s64 D, D, D", "sub.u64 D, D, D", "mul.lo.u64 D, D, D",
    "mul.hi.s64 D, D, D", "and.b64 D, D, D", "shl.b64 D, D, R", "shr.s64 D, D, R", "min.s64 D, D, D", "div.s64 D, D, D",
    "rem.u64 D, D, D", "cvt.s64.s32 D, R", "cvt.u64.u32 D, R", "cvt.u32.u64 R, D", "cvt.s32.s16 R, R",
    "add.rn.f32 F, F, F", "sub.rn.f32 F, F, F", "mul.rn.f32 F, F, F", "div.rn.f32 F, F, F", "sqrt.rn.f32 F, F",
    "add.rz.f32 F, F, F", "sub.rm.f32 F, F, F", "fma.rp.f32 F, F, F, F", "mul.rp.f32 F, F, F",
    "add.ftz.f32 F, F, F", "abs.f32 F, F", "neg.f32 F, F",
    "cvt.rn.f32.s32 F, R", "cvt.rz.f32.u32 F, R", "cvt.rn.f32.u64 F, D", "cvt.rzi.s32.f32 R, F", "cvt.rni.u32.f32 R, F",
    "cvt.rmi.s64.f32 D, F", "cvt.rpi.f32.f32 F, F", "setp.lt.s32 P, R, R", "setp.ge.u64 P, D, D", "setp.eq.f32 P, F, F",
    "setp.gtu.f32 P, F, F", "setp.ne.and.u32 P, R, R, P", "and.pred P, P, P", "xor.pred P, P, P", "not.pred P, P",
    "selp.b32 R, R, R, P", "selp.f32 F, F, F, P", "set.le.u32.s32 R, R, R", "slct.s32.s32 R, R, R, R",
)  # fmt: skip
_TOGETHER = (
    "shfl.sync.bfly.b32 R, R, 5, 31, -1", "shfl.sync.idx.b32 R, R, R, 31, -1", "shfl.sync.up.b32 R|P, R, 3, 0, -1",
    "vote.sync.ballot.b32 R, P, -1", "vote.sync.any.pred P, P, -1", "match.any.sync.b32 R, R, -1",
    "bar.sync 0;\n  st.shared.u32 [MINE], R;\n  bar.sync 0;\n  ld.shared.u32 R, [NEXT]",
)
"""What all lanes of a warp, or all warps, do together."""


def _instruction(draw: random.Random, templates: Sequence[str]) -> str:
    text = draw.choice(templates).replace("MINE", "%mine").replace("NEXT", "%next")
    text = text.replace("CONSTANT", str(draw.choice([0, 1, -1, 31, 1 << 30, draw.getrandbits(31)])))
    return "".join(f"%{letter.lower()}{draw.randrange(_COUNTS[letter.lower()])}" if letter in "RDFP" else letter
                   for letter in text)  # fmt: skip


def _kernel(seed: int, length: int = 45) -> str:
    """PTX that loads a word, a double word and a float of each thread, computes, and stores all registers."""
    draw = random.Random(seed)
    lines, label, until = [], 0, 0
    for number in range(length):
        if until and number >= until:
            lines.append(f"L{label}:")
            until = 0
        if not until and draw.random() < 0.1:
            label, until = label + 1, number + draw.randrange(2, 8)
            lines.append(f"  @{draw.choice(['', '!'])}%p{draw.randrange(4)} bra L{label};")
        together = not until and draw.random() < 0.12
        guard = f"@%p{draw.randrange(4)} " if not together and draw.random() < 0.15 else ""
        lines.append(f"  {guard}{_instruction(draw, _TOGETHER if together else _ANYWHERE)};")
    if until:
        lines.append(f"L{label}:")
    stores = [f"  st.global.b32 [%to+{4 * index}], %r{index};" for index in range(8)]
    stores += [f"  st.global.b64 [%to+{32 + 8 * index}], %d{index};" for index in range(4)]
    stores += [f"  st.global.f32 [%to+{64 + 4 * index}], %f{index};" for index in range(6)]
    begin = [f"  add.u32 %r{index}, %r0, {7919 * index};\n  mul.lo.u32 %r{index}, %r{index}, %r{index - 1};"
             for index in range(1, 8)]  # fmt: skip
    begin += [f"  mul.wide.s32 %d{index}, %r{index}, %r{index + 1};" for index in range(4)]
    begin += [f"  cvt.rn.f32.s32 %f{index}, %r{index};\n  mul.rn.f32 %f{index}, %f{index}, %f0;"
              for index in range(1, 6)]  # fmt: skip
    begin += [f"  setp.lt.s32 %p{index}, %r{index}, %r{index + 2};" for index in range(4)]
    return _AROUND.format(body="\n".join([*begin, *lines, *stores]), threads=_THREADS)


_AROUND = """.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 ints, .param .u64 floats, .param .u64 out) .reqntid {threads}, 1, 1 {{
  .reg .b32 %r<8>; .reg .b64 %d<4>; .reg .f32 %f<6>; .reg .pred %p<4>;
  .reg .b32 %t, %mine, %next; .reg .b64 %at, %wide, %to;
  .shared .align 4 .b8 room[{threads}00];
  mov.u32 %t, %tid.x;
  mov.u32 %mine, room;
  mad.lo.u32 %next, %t, 4, %mine;
  mul.lo.u32 %mine, %t, 4;
  mov.u32 %t, room;
  add.u32 %mine, %mine, %t;
  xor.b32 %next, %mine, 28;
  mov.u32 %t, %tid.x;
  ld.param.u64 %at, [ints];
  mul.wide.u32 %wide, %t, 4;
  add.u64 %at, %at, %wide;
  ld.global.u32 %r0, [%at];
  ld.param.u64 %at, [floats];
  add.u64 %at, %at, %wide;
  ld.global.f32 %f0, [%at];
  ld.param.u64 %at, [out];
  mul.wide.u32 %wide, %t, 88;
  add.u64 %to, %at, %wide;
{body}
  ret;
}}
"""


@pytest.mark.parametrize("seed", range(12))
def test_both_engines_agree(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    ints = numbers.integers(-(1 << 31), 1 << 31, _THREADS).astype("i4")
    ints[::5] = numbers.integers(-3, 4, len(ints[::5]))
    floats = (numbers.standard_normal(_THREADS) * np.exp2(numbers.integers(-130, 100, _THREADS))).astype("f4")
    floats[::7] = numbers.choice(np.array([0.0, -0.0, np.inf, 1e-42, 1.0], "f4"), len(floats[::7]))
    ptx = _kernel(seed)
    one, other = (
        Runner(ptx, engine)("k", ints, floats, np.zeros((_THREADS, 22), "u4"), block=(_THREADS,))[2]
        for engine in ("numpy", "llvm")
    )
    same = (one == other) | (np.isnan(one.view("f4")) & np.isnan(other.view("f4")) & (np.arange(22) >= 16))
    assert same.all(), f"registers {sorted(set(np.argwhere(~same)[:, 1]))} differ\n{ptx}"
