"""ptxas and PTX text: what is read from its report, and its errors with the offending line."""

from __future__ import annotations

import pytest
from tests.backend.kernels import job, text

from tilewright import InternalError
from tilewright.compiler.backend import assemble as assemble_module
from tilewright.compiler.backend.assemble import assemble, disassemble, find_tools, serialises
from tilewright.compiler.backend.emit import emit_ptx
from tilewright.compiler.backend.kernel import compile_kernel, read_signature
from tilewright.passes.target import TARGETS, find_target

REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : (C7512) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ...
ptxas info    : Function properties for k
    48 bytes stack frame, 40 bytes spill stores, 44 bytes spill loads
ptxas warning : Value of threads per SM for entry k is out of range
ptxas info    : Used 168 registers, used 1 barriers, 48 bytes cumulative stack size, 1024 bytes smem
"""


def test_report_is_read() -> None:
    found = assemble_module._parse(REPORT, b"")
    assert (found.registers, found.spills, found.stack_bytes, found.shared_bytes) == (168, 84, 48, 1024)
    assert len(found.warnings) == 2
    assert serialises(found.warnings)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_assembles(name: str) -> None:
    target = find_target(name)
    found = assemble(emit_ptx(text(), target), target)
    assert found.registers > 0
    assert found.spills == 0
    assert found.warnings == ()


def test_error_names_the_line() -> None:
    target = find_target("sm_80")
    ptx = emit_ptx(text(), target).replace("add.rn.f64", "bad.rn.f64")
    number = next(index for index, line in enumerate(ptx.splitlines(), 1) if "bad.rn.f64" in line)
    with pytest.raises(InternalError) as caught:
        assemble(ptx, target)
    lines = str(caught.value).splitlines()
    assert lines[0] == "ptxas rejects the kernel for sm_80:"
    assert lines[1].startswith(f"  line {number}: bad.rn.f64")
    assert "Not a name of any known instruction: 'bad'" in lines[2]


def test_missing_tool_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble_module, "find_tools", dict)
    with pytest.raises(InternalError, match="pip install nvidia-cuda-nvcc"):
        assemble(".version 8.0", find_target("sm_80"))
    with pytest.raises(InternalError, match=r"pip install 'tilewright\[disassembler\]'"):
        disassemble(b"")


def test_machine_code() -> None:
    if "nvdisasm" not in find_tools():
        pytest.skip("nvdisasm is not installed")
    target = find_target("sm_90a")
    cubin = assemble(emit_ptx(text(), target), target, keep_cubin=True).cubin
    assert "DADD" in disassemble(cubin)


def test_signature() -> None:
    assert read_signature(emit_ptx(text(), find_target("sm_80"))) == ("double", ("pointer", "pointer", "i32"))
    with pytest.raises(InternalError, match="0 entries"):
        read_signature(".version 8.0")


def test_entry_must_have_the_name_of_the_job() -> None:
    wrong = job()
    object.__setattr__(wrong, "name", "other")
    with pytest.raises(InternalError, match="the PTX defines 'double', not 'other'"):
        compile_kernel(wrong)
