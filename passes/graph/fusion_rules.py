"""Which operations share a kernel: one rule a kind of kernel, applied in the order of `plan`.

In: a `Grouping` without groups. Out: the same with every operation either owned by a group, or free
(reshapes, control flow), or copied into all its readers. Heavy operations choose first, then their neighbours
join them; what is left becomes loops.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...dialects.tensors import Shape, element_of
from ...runtime.dtypes import dtype
from ...runtime.symbolic import ONE, Expression
from .attention_rules import copy_masks, first_contraction, form_attentions
from .cache_loops import pair_cache_loops
from .gates import alternate_columns, maps_to_join
from .grouping import CHEAP_OPERATIONS, Group, Grouping, Node
from .rewriting import producer

MAXIMUM_INPUTS = 48  # tensors that one kernel reads
SINGLE = {"lstm": "recurrent", "gru": "recurrent", "scan": "scan", "scatter": "scatter", "sort": "sort"}
WEIGHT_OPERATIONS = 24  # of a map that makes weights of a few bits: a copy of them in memory costs more
EPILOGUE_MOVEMENTS = ("transpose", "reshape")  # no slice: the kernel would compute, and must not store, what it drops
PROLOGUE_MOVEMENTS = ("transpose", "reshape", "slice", "broadcast")


def plan(grouping: Grouping) -> None:
    """Give every operation its group."""
    attentions = form_attentions(grouping)
    dots = [grouping.start("dot", n.index) for n in grouping.nodes if n.is_dot and grouping.is_free(n.index)]
    for group in [*attentions, *dots]:
        extend_with_readers(grouping, group)
    windows = [grouping.start("loop", node.index) for node in grouping.nodes if node.is_window]
    for group in windows:
        extend_with_readers(grouping, group)
    rows = form_rows(grouping)
    singles = [grouping.start(SINGLE[node.name], node.index) for node in grouping.nodes if node.name in SINGLE]
    for group in [*attentions, *dots]:
        extend_with_operands(grouping, group)
    for group in windows:
        extend_with_operands(grouping, group)
    for group in singles:
        if group.kind == "recurrent":
            take_dequantisation(grouping, group)
        else:
            extend_with_operands(grouping, group)
    for group in rows:
        extend_row_with_movements(grouping, group)
    form_loops(grouping)
    pair_cache_loops(grouping)
    for group in grouping.groups.values():
        strip_reshapes(grouping, group)


# Readers: the epilogue ------------------------------------------------------------------------------------------
def extend_with_readers(grouping: Grouping, group: Group) -> None:
    """Take maps over the group's result, element by element, and movements of it where nothing else reads it."""
    anchor = grouping.nodes[group.anchor]
    shape = anchor.shape
    moved = False
    while True:
        gate = [] if moved else _gate(grouping, group)
        if gate:
            for index in gate:
                grouping.add(group, index)
            moved, shape = True, grouping.nodes[gate[-1]].shape
        candidates = sorted({user for index in grouping.outputs(group) for user in grouping.nodes[index].users})
        taken = None
        for index in candidates:
            node = grouping.nodes[index]
            if not grouping.is_free(index) or index in group.members or _is_for_readers(grouping, node):
                continue
            if _is_for_reductions(grouping, group, node):
                continue
            if node.is_map and _reads_in_place(grouping, group, node, shape):
                taken = node
            elif node.name in EPILOGUE_MOVEMENTS and _is_only_reader(grouping, group, node):
                taken, moved, shape = node, True, node.shape
            if taken and (moved and not _keeps_one_output(grouping, group, taken)):
                taken = None
            if taken and grouping.can_take_user(group, index):
                break
            taken = None
        if taken is None:
            break
        grouping.add(group, taken.index)
    for index in grouping.outputs(group):
        if index != group.anchor and _is_widened_for_others(grouping, group, grouping.nodes[index]):
            grouping.remove(group, index)


def _is_widened_for_others(grouping: Grouping, group: Group, node: Node) -> bool:
    """Whether the kernel would store a tensor once more, wider: maps and reductions of others widen it for nothing."""
    if not node.is_widening or not set(node.producers) <= group.members:
        return False
    others = [grouping.nodes[user] for user in node.users]
    return all(own.index not in group.members and (own.is_map or own.name == "reduce") for own in others)


def _gate(grouping: Grouping, group: Group) -> list[int]:
    """The slices and maps behind a matmul whose even and odd columns one map joins, that map last (pair-products)."""
    outputs = grouping.outputs(group)
    if grouping.nodes[group.anchor].name != "matmul" or outputs != [group.anchor]:
        return []
    slices = alternate_columns(grouping.nodes[group.anchor].operation.results[0])
    maps = maps_to_join(*(own.results[0] for own in slices)) if slices else None
    if slices is None or maps is None:
        return []
    nodes = [grouping.node_of(operation) for operation in (*slices, *maps)]
    free = [node.index for node in nodes if node is not None and grouping.is_free(node.index)]
    return free if len(free) == len(nodes) else []


def _is_for_readers(grouping: Grouping, node: Node) -> bool:
    """Rounding of operands belongs to the products that ask for it: the wide value is then stored once, narrow."""
    return node.is_narrowing and all(
        grouping.nodes[user].is_dot or grouping.nodes[user].is_window for user in node.users
    )


def _is_for_reductions(grouping: Grouping, group: Group, node: Node) -> bool:
    """A map that only reductions read, such as the squares of a tensor which others need as it is: a second result
    would be stored, and read again, where the kernel of the reductions computes it for nothing.
    """
    reduced = node.is_map and node.users and all(grouping.nodes[user].name == "reduce" for user in node.users)
    return bool(reduced) and any(
        set(grouping.nodes[source].users) - {node.index} for source in node.producers if source in group.members
    )


def _reads_in_place(grouping: Grouping, group: Group, node: Node, shape: Shape) -> bool:
    """The map has the group's shape and reads each of its values at its own position only."""
    if node.shape != shape:
        return False
    for value in node.inputs:
        owner = value.owner
        inside = any(value in grouping.nodes[index].operation.results for index in group.members) if owner else False
        if inside and (value in node.gathers or node.shape_of(value) != shape):
            return False
    return True


def _is_only_reader(grouping: Grouping, group: Group, node: Node) -> bool:
    outputs = grouping.outputs(group)
    return len(outputs) == 1 and grouping.nodes[outputs[0]].users == [node.index]


def _keeps_one_output(grouping: Grouping, group: Group, node: Node) -> bool:
    """After data has moved, a kernel stores one result: everything else it computed must stay inside."""
    inside = group.members | {node.index}
    return all(set(grouping.nodes[index].users) <= inside for index in group.members if index not in (node.index,))


# Operands: the prologue -----------------------------------------------------------------------------------------
def extend_with_operands(grouping: Grouping, group: Group) -> None:
    """Take cheap producers of the anchor's operands: movements, and maps that cost little to compute again. What the
    epilogue reads may be a slice.
    """
    anchor = grouping.nodes[group.anchor]
    pending = [index for index in anchor.producers if index not in group.members]
    pending = [index for index in pending if _is_streamed(grouping, anchor, index)]
    if group.kind == "attention":
        pending += first_contraction(grouping, group).producers
        copy_masks(grouping, group)
    epilogue = {source for index in group.members - {group.anchor} for source in grouping.nodes[index].producers}
    pending += sorted(index for index in epilogue - group.members if grouping.nodes[index].name == "slice")
    weights = set(_weight_side(grouping, anchor))
    while pending:
        index = pending.pop()
        node = grouping.nodes[index]
        if not grouping.is_free(index) or index in group.nodes:
            continue
        if not _may_precede(grouping, group, node, index in weights):
            continue
        if _input_count(grouping, group, node) > MAXIMUM_INPUTS:
            continue
        if grouping.only_within(group, index):
            grouping.add(group, index)
        else:
            grouping.add_copy(group, index)
        pending += node.producers


def take_dequantisation(grouping: Grouping, group: Group) -> None:
    """Let a recurrent layer read its weights as they are stored, narrow: it reads all of them in every step."""
    anchor = grouping.nodes[group.anchor]
    value = weights = anchor.operation.operands[1]
    chain: list[Node] = []
    while (owner := producer(value)) is not None and (node := grouping.node_of(owner)) is not None:
        tensors = [source for source in node.inputs if node.shape_of(source) == node.shape]
        pointwise = node.is_map and node.is_cheap and not node.gathers and len(tensors) == 1
        only_here = set(node.users) <= {anchor.index, *(known.index for known in chain)}
        if not (pointwise or node.name == "transpose") or not grouping.is_free(node.index) or not only_here:
            break
        chain.append(node)
        value = tensors[0] if pointwise else node.inputs[0]
    if dtype(element_of(value)).bytes < dtype(element_of(weights)).bytes:
        for node in chain:
            grouping.add(group, node.index)


def _is_streamed(grouping: Grouping, anchor: Node, index: int) -> bool:
    """True when the anchor reads the node's result element by element, and in no other way."""
    results = set(grouping.nodes[index].operation.results)
    others = [value for value in anchor.inputs if value not in anchor.streamed]
    return not results.intersection(others)


def _weight_side(grouping: Grouping, anchor: Node) -> Iterable[int]:
    """Nodes that lead only to the anchor's second operand, such as the dequantisation of weights."""
    if len(anchor.operation.operands) < 2:
        return []
    found: dict[int, None] = {}
    pending = [
        index for index in anchor.producers if anchor.operation.operands[1] in grouping.nodes[index].operation.results
    ]
    while pending:
        index = pending.pop()
        if index not in found:
            found[index] = None
            pending += grouping.nodes[index].producers
    return found


def _may_precede(grouping: Grouping, group: Group, node: Node, is_weight: bool, reader: int | None = None) -> bool:
    """True when the node may be computed while the anchor reads its operands; `reader` is about to join, too."""
    anchor = grouping.nodes[group.anchor]
    only_here = grouping.only_within(group, node.index) or node.users == [reader]
    if node.name in PROLOGUE_MOVEMENTS or node.is_narrowing:
        return True
    if node.name == "pad" and anchor.name == "pool":
        return only_here
    if not node.is_map or (node.gathers and anchor.name != "scatter"):
        return False
    if anchor.name in SINGLE:
        return only_here
    cheap, expensive = node.cost
    if expensive or cheap > (WEIGHT_OPERATIONS if is_weight else CHEAP_OPERATIONS) or not (only_here or is_weight):
        return False
    if is_weight:
        return only_here or cheap <= 4
    if not (anchor.is_window and cheap <= 3) and not (anchor.is_dot and anchor.has_one_tap):
        return False
    # A producer that would need a kernel of its own computes this map along with it for nothing.
    return all(
        not source.is_map
        or not grouping.is_free(source.index)
        or _may_precede(grouping, group, source, False, node.index)
        for source in grouping.producer_nodes(node.index)
    )


def _input_count(grouping: Grouping, group: Group, node: Node) -> int:
    values = {value for index in group.nodes for value in grouping.nodes[index].inputs}
    return len(values | set(node.inputs))


# Rows: reductions -----------------------------------------------------------------------------------------------
def form_rows(grouping: Grouping) -> list[Group]:
    """Reductions over the same axes of the same shape with the maps around them: softmax, normalisations, means."""
    groups = []
    for node in grouping.nodes:
        if node.name == "reduce" and grouping.is_free(node.index):
            group = grouping.start("row", node.index)
            _grow_row(grouping, group)
            groups.append(group)
    return groups


def _grow_row(grouping: Grouping, group: Group) -> None:
    anchor = grouping.nodes[group.anchor]
    full = anchor.shape_of(anchor.operation.operands[0])
    reduced = anchor.shape
    changed = True
    while changed:
        changed = False
        near = {user for index in group.members for user in grouping.nodes[index].users}
        near |= {source for index in group.members for source in grouping.nodes[index].producers}
        for index in sorted(near - group.members):
            node = grouping.nodes[index]
            if not grouping.is_free(index) or _is_for_readers(grouping, node):
                continue
            if not _belongs_to_row(node, anchor, full, reduced):
                continue
            if _may_join_row(grouping, group, node, full) and _input_count(grouping, group, node) <= MAXIMUM_INPUTS:
                grouping.add(group, index)
                changed = True


def _belongs_to_row(node: Node, anchor: Node, full: Shape, reduced: Shape) -> bool:
    if node.name == "reduce":
        return node.shape_of(node.operation.operands[0]) == full and node.axes == anchor.axes
    return node.is_map and node.shape in (full, reduced)


def _may_join_row(grouping: Grouping, group: Group, node: Node, full: Shape) -> bool:
    results = {value for index in group.members for value in grouping.nodes[index].operation.results}
    if node.gathers & results:
        return False
    reads_group = bool(set(node.producers) & group.members)
    feeds_group = bool(set(node.users) & group.members)
    if feeds_group and any(
        value in grouping.nodes[user].gathers
        for user in set(node.users) & group.members
        for value in node.operation.results
    ):
        return False
    if feeds_group and not set(node.users) <= group.members and node.shape != full and not node.is_cheap:
        return False
    if reads_group and not grouping.can_take_user(group, node.index):
        return False
    return not feeds_group or grouping.can_take_producer(group, node.index)


def extend_row_with_movements(grouping: Grouping, group: Group) -> None:
    """Let a row read through transposes, slices and broadcasts that nothing else needs."""
    pending = [source for index in group.members for source in grouping.nodes[index].producers]
    while pending:
        index = pending.pop()
        node = grouping.nodes[index]
        if index in group.nodes or not grouping.is_free(index) or not set(node.users) <= group.nodes:
            continue
        if node.name in ("transpose", "slice", "broadcast", "reshape"):
            grouping.add(group, index)
            pending += node.producers


# Loops: everything pointwise ------------------------------------------------------------------------------------
def form_loops(grouping: Grouping) -> None:
    """The rest, from last to first: join the only reader's loop, be copied into loops, or start one."""
    for node in reversed(grouping.nodes):
        if not grouping.is_free(node.index) or not (node.is_map or node.is_movement):
            continue
        if not grouping.is_needed(node.index):
            continue  # every reader computes a copy
        homes = {home for user in node.users for home in grouping.live_homes(user)}
        groups = [grouping.groups[home] for home in sorted(homes) if home in grouping.groups]
        loops = [group for group in groups if _may_join_loop(grouping, group, node)]
        if len(homes) == 1 and len(loops) == 1:
            grouping.add(loops[0], node.index)
            continue
        if node.name == "reshape":
            continue  # between kernels it is another name for the same memory
        if loops and len(loops) == len(homes) and _is_free_to_repeat(grouping, node):
            for group in loops:
                grouping.add_copy(group, node.index)
            continue
        sibling = next((group for group in loops if _same_loop(grouping, group, node)), None)
        if sibling is not None and node.index not in sibling.copies:
            grouping.add(sibling, node.index)
        else:
            grouping.start("loop", node.index)


def _may_join_loop(grouping: Grouping, group: Group, node: Node) -> bool:
    """True when the loop can compute the node at every position where it needs it, without much repetition."""
    if group.kind != "loop" or _input_count(grouping, group, node) > MAXIMUM_INPUTS:
        return False
    anchor = grouping.nodes[group.anchor]
    readers = [grouping.nodes[user] for user in node.users if user in group.nodes]
    if anchor.is_window and _leads_to(grouping, group, node, anchor):
        return _may_precede(grouping, group, node, False)
    if node.is_cheap:
        return True
    return all(_reads_once(node, reader) for reader in readers)


def _leads_to(grouping: Grouping, group: Group, node: Node, anchor: Node) -> bool:
    """True when the node feeds the anchor rather than what follows it."""
    pending, seen = [user for user in node.users if user in group.nodes], set[int]()
    while pending:
        index = pending.pop()
        if index == anchor.index:
            return True
        if index not in seen:
            seen.add(index)
            pending += [user for user in grouping.nodes[index].users if user in group.nodes]
    return False


def _reads_once(node: Node, reader: Node) -> bool:
    """True when no element of the node is needed for two elements of the reader."""
    result = node.operation.results[0]
    if result in reader.gathers:
        return False
    if reader.is_movement and reader.name != "broadcast":
        return True
    return _stretch(node, reader) == ONE


def _stretch(node: Node, reader: Node) -> Expression:
    """How many elements of the reader one element of the node serves."""
    quotient = reader.size.exact_divide(node.size)
    return quotient if quotient is not None else Expression.constant(2)


def _is_free_to_repeat(grouping: Grouping, node: Node) -> bool:
    """True for what reads no more memory than its readers would: movements, splats, casts, index arithmetic."""
    if node.is_movement:
        return node.name != "concatenate"
    cheap, expensive = node.cost
    tensors = [value for value in node.inputs if node.shape_of(value) == node.shape]
    return not expensive and cheap <= 3 and len(tensors) <= 1 and not node.gathers


def _same_loop(grouping: Grouping, group: Group, node: Node) -> bool:
    """True when the node can be one more result of a loop: same shape, nothing between that moves data, no cycle."""
    if not node.is_map or any(grouping.nodes[index].shape != node.shape for index in grouping.outputs(group)):
        return False
    if any(not grouping.nodes[index].is_map or grouping.nodes[index].gathers for index in group.nodes):
        return False
    readers = [grouping.nodes[user] for user in node.users if user in group.nodes]
    return all(reader.shape == node.shape for reader in readers) and grouping.can_take_producer(group, node.index)


# Reshapes -------------------------------------------------------------------------------------------------------
def strip_reshapes(grouping: Grouping, group: Group) -> None:
    """Take reshapes at the edges out of the group: between kernels they are other names for the same memory."""
    changed = True
    while changed:
        changed = False
        for index in sorted(group.nodes):
            node = grouping.nodes[index]
            if node.name != "reshape" or len(group.nodes) == 1:
                continue
            leads = not set(node.producers) & group.nodes
            trails = index in group.members and not set(node.users) & group.nodes
            if leads or trails:
                grouping.remove(group, index)
                changed = True
