"""Sessions on the real emulator, with PTX written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.runtime.engines import WEIGHT, affine, affine_result, branching

from tilewright.runtime.engine import Engine
from tilewright.runtime.errors import DeviceError

HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"


def elementwise(name: str, operation: str, index_of_second: str, count: str) -> str:
    """z[i] = operation(x[i], y[index_of_second]) for i < count, one element a thread."""
    return f"""{HEADER}
.visible .entry {name}(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .u32 p3)
.reqntid 128, 1, 1
{{
  .reg .pred %p<2>;
  .reg .b32 %r<8>;
  .reg .f32 %f<4>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [p0];
  ld.param.u64 %rd2, [p1];
  ld.param.u64 %rd3, [p2];
  ld.param.u32 %r1, [p3];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.s32 %r4, %r2, 128, %r3;
  {count}
  setp.ge.s32 %p1, %r4, %r1;
  @%p1 bra DONE;
  {index_of_second}
  mul.wide.s32 %rd4, %r4, 4;
  mul.wide.s32 %rd5, %r5, 4;
  add.s64 %rd1, %rd1, %rd4;
  add.s64 %rd2, %rd2, %rd5;
  add.s64 %rd3, %rd3, %rd4;
  ld.global.f32 %f1, [%rd1];
  ld.global.f32 %f2, [%rd2];
  {operation}.rn.f32 %f3, %f1, %f2;
  st.global.f32 [%rd3], %f3;
DONE:
  ret;
}}
"""


ADD = elementwise("add", "add", "mov.u32 %r5, %r4;", "")
# scale is launched with a block for every row of 4 and counts rows.
SCALE = elementwise("scale", "mul", "and.b32 %r5, %r4, 3;", "shl.b32 %r1, %r1, 2;")


def emulated(add: str = ADD) -> Engine:
    """The affine engine with real PTX."""
    manifest = affine().manifest
    return Engine.build(manifest, {"add": add, "scale": SCALE}, {}, [WEIGHT, np.ones(3, np.float32)])


@pytest.mark.parametrize("rows", [1, 32, 0, 77])
def test_affine(rows: int) -> None:
    generator = np.random.default_rng(rows)
    inputs = {name: generator.standard_normal((rows, 4)).astype(np.float32) for name in ("x", "y")}
    with emulated().session("emulator") as session:
        for _ in range(2):
            results = session.run(inputs)
            # Every operation is one rounding in both, so nothing may differ.
            np.testing.assert_array_equal(results["z"], affine_result(**inputs))
        left = session.run(inputs, device_outputs=True)["z"]
        np.testing.assert_array_equal(np.from_dlpack(left), affine_result(**inputs))


def test_a_fault_names_kernel_and_nodes() -> None:
    """Without its bounds check `add` leaves its buffer, which is seen when buffers are separate allocations."""
    wild = ADD.replace("@%p1 bra DONE;", "")
    inputs = {name: np.ones((33, 4), np.float32) for name in ("x", "y")}
    from tilewright.runtime.device import open_device
    from tilewright.runtime.session import Session

    with (
        Session(emulated(wild), open_device("emulator"), checked=True) as session,
        pytest.raises(DeviceError, match=r"(?s)in kernel 'add', grid \(2, 1, 1\)\n  nodes: Add_1"),
    ):
        session.run(inputs)


def test_damaged_ptx_is_a_device_error() -> None:
    with pytest.raises(DeviceError):
        emulated("this is no PTX").session("emulator")


def test_branches() -> None:
    manifest = branching().manifest
    positive = f"""{HEADER}
.visible .entry is_positive(.param .u64 p0, .param .u64 p1, .param .u32 p2)
.reqntid 128, 1, 1
{{
  .reg .pred %p<2>;
  .reg .b16 %rs<2>;
  .reg .b32 %r<2>;
  .reg .f32 %f<2>;
  .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [p0];
  ld.param.u64 %rd2, [p1];
  ld.global.f32 %f1, [%rd1];
  setp.gt.f32 %p1, %f1, 0f00000000;
  selp.u16 %rs1, 1, 0, %p1;
  st.global.u8 [%rd2], %rs1;
  ret;
}}
"""
    engine = Engine.build(manifest, {"add": ADD, "is_positive": positive}, {}, [])
    x = np.array([3.0], np.float32)
    with engine.session("emulator") as session:
        assert session.run({"x": x})["z"] == 6
        assert session.run({"x": -x})["z"] == 0
