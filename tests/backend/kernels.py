"""Kernels for tests of the back end: lowered already, small, good and bad.

In: nothing. Out: `KernelJob`s. They stand in for what the lowering makes.
"""

from tilewright.compiler.backend.kernel import KernelJob

_MODULE = """
module attributes {gpu.container_module} {
  gpu.module @kernels {
    llvm.func @NAME(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>, %n: i32)
        attributes {nvvm.kernel, nvvm.reqntid = array<i32: 32, 1, 1>} {
      %thread = nvvm.read.ptx.sreg.tid.x : i32
      %from = llvm.getelementptr %x[%thread] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f64
      %to = llvm.getelementptr %y[%thread] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f64
      %value = llvm.load %from : !llvm.ptr<1> -> f64
      %result = BODY
      llvm.store %result, %to : f64, !llvm.ptr<1>
      llvm.return
    }
  }
}
"""
GOOD = "llvm.fadd %value, %value : f64"
FATAL = 'llvm.call_intrinsic "llvm.exp.f64"(%value) : (f64) -> f64'  # LLVM ends the process: no such function on a GPU


def text(body: str = GOOD, name: str = "double") -> str:
    """A gpu module whose one kernel computes `body` of every element."""
    return _MODULE.replace("BODY", body).replace("NAME", name)


def job(
    body: str = GOOD, name: str = "double", target: str = "sm_80", nodes: tuple[str, ...] = ("Add_1",)
) -> KernelJob:
    """A job at the gpu level."""
    return KernelJob(name, text(body, name), target, nodes, level="gpu", block=32)
