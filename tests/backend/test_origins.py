"""Comments in PTX that name the operations of the tile program."""

from __future__ import annotations

from tilewright.compiler.backend.origins import mark_origins

PROGRAM = """module {
  func.func @k(%arg0: memref<?xf32>) {
    %0 = "tile.program_id"() {axis = 0 : i64} : () -> index
    %1 = arith.constant 3 : index
    tile.store %0, %arg0 : memref<?xf32>
    return
  }
}"""

PTX = """.visible .entry k(
)
{
\t.reg .b32 \t%r<3>;
\t.loc\t1 3 0
$L__func_begin0:
\t.loc\t1 3 10
\tmov.u32 \t%r1, %ctaid.x;
$L__tmp0:
\t.loc\t1 5 5
$L__BB0_1:
\tst.global.b32 \t[%rd1], %r1;
\t.loc\t1 6 5
\tret;
$L__func_end0:

}
\t.file\t1 "." "-"
\t.section\t.debug_macinfo\t{\t}
"""


def test_operations_are_named_where_they_begin() -> None:
    # `return` has no dialect: what follows it counts as the store's.
    assert mark_origins(PTX, PROGRAM).splitlines() == [
        ".visible .entry k(", ")", "{", "\t.reg .b32 \t%r<3>;",
        "\t// in 3: tile.program_id", "\tmov.u32 \t%r1, %ctaid.x;",
        "$L__BB0_1:", "\t// in 5: tile.store", "\tst.global.b32 \t[%rd1], %r1;",
        "\tret;", "", "}",
    ]  # fmt: skip
