"""The `tile` dialect: what one block computes, on two-dimensional tiles whose types carry shape, element type and
layout.

In: `!tile.tile<[rows, columns], element, "layout">` values, flat `memref<?xT>` arguments, `index` sizes; loops are
`scf.for`, scalar work inside maps is `arith`/`math`. Out: operation definitions. The layout text names a class of
passes/lower/layouts.
"""

from __future__ import annotations

from .definition import OperationDefinition

NAME = "tile"
TYPES: dict[str, tuple[str, ...]] = {
    "tile": ("shape", "element", "layout"),
    "tensor_map": ("element", "box", "swizzle"),
    "barriers": (),
}

LANES = ("contiguous", "uniform", "scattered")  # how a load's offset moves across the lanes of a vector

OPERATIONS = (
    OperationDefinition(
        "tile.program_id", "The block's position in the grid along `axis`.", (), ("id",), {"axis": "integer"}
    ),
    OperationDefinition("tile.begin_next", "The kernel after this one may start, as far as this block is concerned.", (), ()),
    OperationDefinition("tile.prefetch_map", "Bring a tensor map near, once a block.", ("map",), ()),
    OperationDefinition(
        "tile.await_previous",
        "Wait until the kernels before this one have ended and what they wrote is visible: nothing in front of it touches global memory.",
        (),
        (),
    ),
    # Register tiles -----------------------------------------------------------------------------------------
    OperationDefinition(
        "tile.map",
        "For every position (i, j) of a tile placed at (row, column): run the body with block arguments (i, j). Positions at or past "
        "(rows, columns) do not store, and give `fill` in the result. Captured tiles are read with tile.element. "
        "Attributes: shape and layout (also when there is no result), fill.",
        ("row", "column", "rows", "columns"),
        ("result?",),
        {"shape": "integers", "layout": "string"},
        regions=1,
    ),
    OperationDefinition(
        "tile.element",
        "In a map: the captured tile's element at this position; a dimension of size 1 stretches.",
        ("tile",),
        ("element",),
    ),
    OperationDefinition(
        "tile.load",
        "Element `offset` of a memref. `lanes` tells how the offset moves along the columns of a vector.",
        ("memory", "offset"),
        ("element",),
        {"lanes": "string"},
    ),
    OperationDefinition(
        "tile.masked_load",
        "Element `offset` of a memref where the predicate holds, else `other` (the offset may then be anything: what lies at `instead`, "
        "or else at 0, is read).",
        ("memory", "offset", "predicate", "other"),
        ("element",),
        {"lanes": "string"},
        {"instead": "integer"},
    ),
    OperationDefinition(
        "tile.load_run",
        "In a map: the elements of a memref from `offset` on that fill the result, a vector or a wider integer; zeros where a predicate "
        "does not hold. `lanes` tells how the offset moves along the columns of a vector: contiguous, by as many elements.",
        ("memory", "offset", "predicate?"),
        ("elements",),
        {"lanes": "string"},
    ),
    OperationDefinition(
        "tile.select_bytes",
        "In a map: a word of four of the eight bytes of two, those of `low` being 0 to 3; the last hexadecimal digit of `selector` says "
        "which is the lowest.",
        ("low", "high"),
        ("word",),
        {"selector": "integer"},
    ),
    OperationDefinition(
        "tile.store", "In a map: write one element.", ("element", "memory", "offset"), (), {"lanes": "string"}
    ),
    OperationDefinition(
        "tile.atomic",
        "In a map: combine an element with what memory holds by `kind` (sum, product, max, umax), where the predicate holds, whoever else does so.",
        ("element", "memory", "offset", "predicate"),
        (),
        {"kind": "string"},
    ),
    OperationDefinition("tile.full", "A tile of one value.", ("value",), ("result",)),
    OperationDefinition(
        "tile.reduce",
        "Combine over `axis` (0 rows, 1 columns), which becomes size 1; every thread that owned part of the line gets the result.",
        ("tile",),
        ("result",),
        {"kind": "string", "axis": "integer"},
    ),
    OperationDefinition(
        "tile.halves",
        "The even and the odd columns (or rows, as the results' layout says) of a tile whose threads hold both of every pair.",
        ("tile",),
        ("even", "odd"),
    ),
    OperationDefinition(
        "tile.columns",
        "The columns from `first` on of a wgmma accumulator: as many as the result has.",
        ("tile",),
        ("result",),
        {"first": "integer"},
    ),
    OperationDefinition(
        "tile.scan",
        "Every column combined with those before it and with `carry`, one value a line; `exclusive` leaves the column itself out. And "
        "the total of each line, which is the next tile's carry.",
        ("tile", "carry"),
        ("result", "total"),
        {"kind": "string", "exclusive": "integer"},
    ),
    OperationDefinition(
        "tile.sort",
        "Sort `count` unsigned keys from element `offset` of `keys` on, and what stands beside them in `places`, by (key, place). The block "
        "sorts in shared memory when there are at most `most`, a power of two, and leaves the keys as they were; else (`most` 0) in place.",
        ("keys", "places", "offset", "count"),
        (),
        {"most": "integer"},
    ),
    # Shared-memory tiles and tensor-core work: one block's main loop ----------------------------------------
    OperationDefinition(
        "tile.allocate",
        "A shared-memory tile, or `stages` of them in a ring; in the place of the shared tile `place` and of what was allocated after it, "
        "when that is given.",
        ("place?",),
        ("tile",),
        {"stages": "integer"},
    ),
    OperationDefinition(
        "tile.copy",
        "Fill stage `stage` of a shared tile from a memref: the body maps (row, column) of the tile, offset by (row, column) operands, to "
        "(offset, predicate); false means zero. `vector` elements are contiguous along the tile's fast dimension. Asynchronous.",
        ("target", "stage", "memory", "row", "column"),
        (),
        {"vector": "integer"},
        regions=1,
    ),
    OperationDefinition(
        "tile.fill",
        "Fill stage `stage` of a shared tile with what the body computes at (row, column): the synchronous form, for fused prologues.",
        ("target", "stage", "row", "column"),
        (),
        regions=1,
    ),
    OperationDefinition(
        "tile.put", "Write a register tile into stage `stage` of a shared tile.", ("target", "stage", "tile"), ()
    ),
    OperationDefinition("tile.commit", "Close a group of asynchronous copies.", (), ()),
    OperationDefinition(
        "tile.wait",
        "Wait until at most `pending` groups are in flight, for this thread.",
        (),
        (),
        {"pending": "integer"},
    ),
    OperationDefinition("tile.barrier", "Wait for all threads of the block.", (), ()),
    OperationDefinition(
        "tile.dot",
        "result = accumulator + left x right for stage `stage` of two shared tiles; `instruction` names the unit that computes it: fma, or "
        "an mma.sync shape such as m16n8k16.f16, m16n8k8.tf32, or a wgmma such as m64n256k16.f16, which runs asynchronously.",
        ("left", "right", "accumulator", "stage"),
        ("result",),
        {"instruction": "string"},
    ),
    # Warp specialisation (sm_90): roles, barriers that count, boxes that arrive by themselves ---------------------
    OperationDefinition("tile.program_count", "Blocks of the grid along `axis`.", (), ("count",), {"axis": "integer"}),
    OperationDefinition(
        "tile.make_barriers",
        "`count` barriers in shared memory, ready for all threads after the next tile.barrier: a phase of one ends when `arrivals` have "
        "arrived and all bytes that were announced have come.",
        (),
        ("barriers",),
        {"count": "integer", "arrivals": "integer"},
    ),
    OperationDefinition(
        "tile.warps",
        "A role: warps `first` to `first + count` run the body, as if the block had no other threads. With `registers`, their budget becomes "
        "that, a thread; whole groups of four warps then have the same role. With `apart`, each group of four warps runs the body as if it "
        "were alone; with `ahead`, it touches nothing that other kernels write, and may run before these have ended.",
        (),
        (),
        {"first": "integer", "count": "integer"},
        {"registers": "integer", "apart": "any", "ahead": "any"},
        regions=1,
    ),
    OperationDefinition("tile.single", "One thread of the role runs the body.", (), (), regions=1),
    OperationDefinition(
        "tile.expect",
        "Arrive at barrier `index` and announce `bytes` that will come by copies.",
        ("barriers", "index"),
        (),
        {"bytes": "integer"},
    ),
    OperationDefinition(
        "tile.arrive",
        "Arrive at barrier `index`, once a warp; with `blocks`, at that of every block of the cluster.",
        ("barriers", "index"),
        (),
        {},
        {"blocks": "integer"},
    ),
    OperationDefinition(
        "tile.cluster_barrier",
        "Wait for all threads of all blocks of the cluster. With `relaxed`, of what a thread has done before it others learn that barriers "
        "have been made, and nothing else.",
        (),
        (),
        {},
        {"relaxed": "any"},
    ),
    OperationDefinition(
        "tile.await",
        "Wait until the phase of barrier `index` with this parity has ended.",
        ("barriers", "index", "parity"),
        (),
    ),
    OperationDefinition(
        "tile.load_box",
        "Copy the box at `coordinates` (innermost first, in elements) of a tensor map of that rank into stage `stage` of a shared tile, "
        "`offset` elements into it; zero outside the tensor. With the im2col mode, filter offsets follow the coordinates. Its bytes arrive "
        "at barrier `index`. With `blocks`, the same happens in every block of the cluster. Asynchronous; one thread runs it.",
        ("target", "stage", "map", "barriers", "index", "offset", "coordinates*"),
        (),
        {"rank": "integer"},
        {"blocks": "integer"},
    ),
    OperationDefinition(
        "tile.store_boxes",
        "Write a register tile to a tensor from `coordinates` on (innermost first, in elements): as many columns at a time as the shared "
        "tile `scratch` has, by way of its stages `stage` to `stage + slots` in turn. Nothing is written outside the tensor. Each group of "
        "four warps stores its own rows, 64 a box. With `strip` the register tile is that strip alone of a larger tile, whose coordinates "
        "and stages these are. Asynchronous.",
        ("tile", "scratch", "stage", "map", "coordinates*"),
        (),
        {"slots": "integer"},
        {"strip": "integer"},
    ),
    OperationDefinition(
        "tile.fetch_boxes",
        "The counterpart: copy `strips` strips of a tensor from `coordinates` on to stages `stage` to `stage + strips` of `scratch`, once no store "
        "reads them any more. Each group of four warps fetches its own rows, whose bytes arrive at the barrier of its number. Asynchronous.",
        ("scratch", "stage", "map", "barriers", "coordinates*"),
        (),
        {"strips": "integer"},
    ),
    OperationDefinition(
        "tile.take_boxes",
        "What has been fetched, from strip `strip` on, as a register tile: each group of four warps takes its own rows.",
        ("scratch", "stage"),
        ("result",),
        {"strip": "integer"},
    ),
    OperationDefinition("tile.stores_wait", "Wait until no store of boxes reads shared memory any more.", (), ()),
    OperationDefinition(
        "tile.dot_wait",
        "The accumulator once at most `pending` asynchronous products are still running; `others` of them (none, if left out) belong to "
        "other accumulators.",
        ("accumulator",),
        ("result",),
        {"pending": "integer"},
        {"others": "integer"},
    ),
    OperationDefinition(
        "tile.pack",
        "A tile of weights rounded to the result's type, as the left operand of products in registers.",
        ("tile",),
        ("result",),
    ),
    OperationDefinition(
        "tile.fragments",
        "Stage `stage` of a shared tile of 16 bits, as the left operand of synchronous products in registers.",
        ("tile", "stage"),
        ("result",),
    ),
    OperationDefinition("tile.group", "Which group of four warps of its role this is.", (), ("number",)),
    OperationDefinition(
        "tile.turn",
        "The transpose of a square tile, by way of the shared tile `scratch`; both have neighbouring columns in one thread.",
        ("tile", "scratch"),
        ("result",),
    ),
    OperationDefinition(
        "tile.exchange",
        "The same tile in another layout, by way of the shared tile `scratch` (stage `stage` of it), as many columns at a time as that has. "
        "Only the threads of the role take part. With `turned`, the transposed tile.",
        ("tile", "scratch", "stage?"),
        ("result",),
        {},
        {"turned": "unit"},
    ),
    OperationDefinition(
        "tile.combine_blocks",
        "The sums (or with `kind` the maxima) over the `blocks` of a cluster of their shared tiles `partial`, of which every block has its own; "
        "of the rows from `row` on, as many as the result has; with `turned`, these transposed. The blocks have met since the last write, and "
        "meet again before the next.",
        ("partial", "row"),
        ("result",),
        {"blocks": "integer"},
        {"kind": "string", "turned": "unit"},
    ),
    OperationDefinition(
        "tile.publish",
        "Leave a register tile in the part of `workspace` of block `block`, and set that block's flags in `semaphores`, one for each warp of the role.",
        ("tile", "workspace", "semaphores", "block"),
        (),
    ),
    OperationDefinition(
        "tile.collect",
        "The tile, and what the role of the same threads in block `block` has published, added up. Waits for it, and clears its flags.",
        ("tile", "workspace", "semaphores", "block"),
        ("result",),
    ),
    OperationDefinition(
        "tile.combine",
        "Add up the partial sums of the groups of warps that split k among them (the layout's warp depth); the result has another layout. "
        "The exchange takes the place of the shared tile `scratch` and of what was allocated after it.",
        ("tile", "scratch"),
        ("result",),
    ),
)
