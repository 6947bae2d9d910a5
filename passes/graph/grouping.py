"""A block as a graph of operations and the groups that will become kernels, with a cheap test for cycles.

In: one block of the graph level. Out: a `Grouping`: nodes with producers and users, and for every node the
group that owns it and the groups that compute a copy of it. It exists so that fusion is planned on plain data
before any IR changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from mlir import ir

from ...dialects.tensors import Shape, shape_of
from ...runtime.symbolic import Expression, product
from .rewriting import (
    binds_symbols,
    body_of,
    captures,
    expressions,
    inputs_of,
    integer,
    integers,
    map_cost,
    mentioned_symbols,
    operations_of,
)

MOVEMENTS = frozenset({"transpose", "reshape", "slice", "broadcast", "pad", "concatenate"})
LEAVES = frozenset({"graph.weight", "graph.constant"})
CHEAP_OPERATIONS = 8  # scalar operations that may be computed again for every reader


@dataclass(eq=False)
class Node:
    """One operation of the block. `producers` and `users` are indices of nodes of the same block."""

    index: int
    operation: ir.Operation
    inputs: list[ir.Value]
    producers: list[int]
    shapes: dict[ir.Type, Shape] = field(repr=False)
    users: list[int] = field(default_factory=list)

    @cached_property
    def name(self) -> str:
        """The operation's name without the dialect, or in full for other dialects."""
        full = str(self.operation.name)
        return full[6:] if full.startswith("graph.") else full

    @cached_property
    def shape(self) -> Shape:
        """The shape of the first result."""
        return self.shape_of(self.operation.results[0])

    def shape_of(self, value: ir.Value) -> Shape:
        """The shape of a value, read once a type."""
        kind = value.type
        found = self.shapes.get(kind)
        if found is None:
            found = self.shapes[kind] = shape_of(value)
        return found

    @cached_property
    def size(self) -> Expression:
        """Number of elements of the first result."""
        return product(self.shape)

    @cached_property
    def cost(self) -> tuple[int, int]:
        """(cheap, expensive) scalar operations an element."""
        return map_cost(self.operation) if self.name == "map" else (0, 0)

    @cached_property
    def gathers(self) -> frozenset[ir.Value]:
        """Tensors that a map reads at computed positions."""
        if self.name != "map":
            return frozenset()
        return frozenset(inner.operands[0] for inner in captures(self.operation, "graph.element_at"))

    @cached_property
    def streamed(self) -> list[ir.Value]:
        """Inputs that are read element by element; a scatter starts as a copy of another."""
        return list(self.operation.operands[:2]) if self.name == "scatter" else self.inputs

    @property
    def is_map(self) -> bool:
        """Pointwise."""
        return self.name == "map"

    @property
    def is_movement(self) -> bool:
        """Only moves elements."""
        return self.name in MOVEMENTS

    @cached_property
    def is_depthwise(self) -> bool:
        """A convolution with one input and one output channel a group."""
        if self.name != "convolution":
            return False
        groups = integer(self.operation, "groups")
        channel = -1 if str(self.operation.attributes["layout"]) == '"channels_last"' else 1
        channels = self.shape_of(self.operation.operands[0])[channel]
        return groups > 1 and channels == groups and self.shape[channel] == groups

    @cached_property
    def is_dot(self) -> bool:
        """A contraction that gets a kernel of its own."""
        return self.name in ("matmul", "convolution", "convolution_transpose") and not self.is_depthwise

    @cached_property
    def is_window(self) -> bool:
        """Reads a neighbourhood in a loop: pools and depthwise convolutions."""
        return self.name == "pool" or self.is_depthwise

    @cached_property
    def has_one_tap(self) -> bool:
        """True for contractions that read every input element at one place only: matrix products and 1x1 kernels."""
        if self.name == "matmul":
            return True
        sizes = self.shape_of(self.operation.operands[1])
        last = str(self.operation.attributes["layout"]) == '"channels_last"'
        return all(size == 1 for size in (sizes[:-2] if last else sizes[2:]))

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The axes of a reduction that are longer than one."""
        sizes = self.shape_of(self.operation.operands[0])
        return tuple(axis for axis in integers(self.operation, "axes") if sizes[axis] != 1)

    @cached_property
    def is_narrowing(self) -> bool:
        """A map that only rounds a tensor to a narrower float: its readers do that better than its producer."""
        return self._only("arith.truncf")

    @cached_property
    def is_widening(self) -> bool:
        """A map that only extends a tensor to a wider float."""
        return self._only("arith.extf")

    def _only(self, conversion: str) -> bool:
        if not self.is_map or self.shape_of(self.inputs[0] if self.inputs else self.operation.results[0]) != self.shape:
            return False
        names = [inner.name for inner in operations_of(body_of(self.operation))]
        return names == ["graph.element", conversion, "gpu.yield"]

    @property
    def is_cheap(self) -> bool:
        """True when computing it again costs next to nothing."""
        cheap, expensive = self.cost
        return (self.is_map and not expensive and cheap <= CHEAP_OPERATIONS) or (
            self.is_movement and self.name != "concatenate"
        )


@dataclass(eq=False)
class Group:
    """Operations that become one kernel: `members` are computed here only, `copies` may be computed elsewhere too."""

    number: int
    kind: str
    anchor: int
    members: set[int]
    copies: set[int] = field(default_factory=set)

    @property
    def nodes(self) -> set[int]:
        """All that the kernel computes."""
        return self.members | self.copies


class Grouping:
    """The nodes of a block and their groups. A node without a group stands for itself under its own number."""

    def __init__(self, block: ir.Block) -> None:
        self.nodes: list[Node] = []
        self.groups: dict[int, Group] = {}
        self.copies: dict[int, set[int]] = {}  # node -> groups that compute a copy
        self.owner: dict[int, int] = {}  # node -> number of its group
        self._node_of: dict[ir.Operation, Node] = {}
        index_of: dict[ir.Value, int] = {}
        shapes: dict[ir.Type, Shape] = {}
        binders: dict[str, int] = {}  # symbol -> the call on the host that finds its value
        for operation in operations_of(block):
            if operation.name in LEAVES:
                continue
            inputs = inputs_of(operation)
            producers = list(dict.fromkeys(index_of[value] for value in inputs if value in index_of))
            if binders:
                found = {binders[symbol] for symbol in mentioned_symbols(operation) if symbol in binders}
                producers += sorted(found - set(producers))
            node = Node(len(self.nodes), operation, inputs, producers, shapes)
            self.nodes.append(node)
            self._node_of[operation] = node
            if binds_symbols(operation):
                binders.update((str(symbol), node.index) for symbol in expressions(operation, "symbols"))
            for value in operation.results:
                index_of[value] = node.index
            for source in producers:
                self.nodes[source].users.append(node.index)

    def node_of(self, operation: ir.Operation) -> Node | None:
        """The node of an operation of this block, None for weights, constants and operations of other blocks."""
        return self._node_of.get(operation)

    # Groups -----------------------------------------------------------------------------------------------------
    def start(self, kind: str, anchor: int) -> Group:
        """A new group of one node."""
        group = Group(anchor, kind, anchor, {anchor})
        self.groups[anchor] = group
        self.owner[anchor] = anchor
        return group

    def add(self, group: Group, index: int) -> None:
        """Make the node a member: it is computed in this group only."""
        group.members.add(index)
        group.copies.discard(index)
        self.copies.get(index, set()).discard(group.number)
        self.owner[index] = group.number

    def add_copy(self, group: Group, index: int) -> None:
        """Let the group compute the node for itself."""
        group.copies.add(index)
        self.copies.setdefault(index, set()).add(group.number)

    def remove(self, group: Group, index: int) -> None:
        """Take the node out of the group again; a former member is free afterwards."""
        if index in group.members:
            group.members.discard(index)
            del self.owner[index]
        group.copies.discard(index)
        self.copies.get(index, set()).discard(group.number)

    def merge(self, group: Group, other: Group) -> None:
        """Let one kernel compute both; no path may lead from one to the other."""
        for index in sorted(other.nodes):
            is_copy = index in other.copies
            self.remove(other, index)
            if not is_copy:
                self.add(group, index)
            elif index not in group.nodes:
                self.add_copy(group, index)
        del self.groups[other.number]

    def is_free(self, index: int) -> bool:
        """True when no group owns the node."""
        return index not in self.owner

    def homes(self, index: int) -> set[int]:
        """Numbers of the groups that compute the node; its own number when it is free."""
        return {self.owner.get(index, index)} | self.copies.get(index, set())

    def outputs(self, group: Group) -> list[int]:
        """Members that something outside the group reads, in order."""
        return [index for index in sorted(group.members) if self.outside_users(group, index)]

    def outside_users(self, group: Group, index: int) -> list[int]:
        """Users of a node that are computed anywhere but in this group."""
        return [user for user in self.nodes[index].users if self._needs_outside(group, user)]

    def _needs_outside(self, group: Group, user: int) -> bool:
        return bool(self.live_homes(user) - {group.number})

    def live_homes(self, index: int) -> set[int]:
        """Homes of a node, without itself where it is free but every reader computes its own copy."""
        homes = self.homes(index)
        if index in homes and self.is_free(index) and self.copies.get(index) and not self.is_needed(index):
            return homes - {index}
        return homes

    def only_within(self, group: Group, index: int) -> bool:
        """True when every reader of the node is computed in this group and nowhere else."""
        return all(self.live_homes(user) == {group.number} for user in self.nodes[index].users)

    def is_needed(self, index: int) -> bool:
        """True when some reader of a free node does not compute its own copy of it."""
        node = self.nodes[index]
        copies = self.copies.get(index, set())
        return any(self.live_homes(user) - copies for user in node.users) or not node.users

    # Cycles -----------------------------------------------------------------------------------------------------
    def reaches(self, group: Group, targets: set[int], through: int | None = None) -> bool:
        """True when a path leads from the group's results to one of `targets` (nodes), not through node `through`.

        Paths that stay within the group do not count.
        """
        wanted = set().union(*(self.homes(target) for target in targets)) - {group.number} if targets else set()
        if not wanted:
            return False
        last = max(max(self._nodes_of(number)) for number in wanted)
        seen: set[int] = {group.number}
        pending = [group.number]
        while pending:
            for index in self._nodes_of(pending.pop()):
                for user in self.nodes[index].users:
                    if user == through:
                        continue
                    for home in self.homes(user) - seen:
                        if home in wanted:
                            return True
                        seen.add(home)
                        if min(self._nodes_of(home)) < last:
                            pending.append(home)
        return False

    def _nodes_of(self, number: int) -> set[int]:
        group = self.groups.get(number)
        return group.members if group else {number}

    def can_take_user(self, group: Group, index: int) -> bool:
        """True when a reader of the group may join: its other inputs do not come from the group."""
        others = {source for source in self.nodes[index].producers if source not in group.nodes}
        return not self.reaches(group, others, through=index)

    def can_take_producer(self, group: Group, index: int) -> bool:
        """True when adding a producer for the group makes no cycle: its other readers do not lead to the group."""
        others = [user for user in self.nodes[index].users if user not in group.nodes]
        if not others:
            return True
        seen: set[int] = {group.number, index}
        pending = [home for user in others for home in self.homes(user) - seen]
        last = max(group.members)
        while pending:
            number = pending.pop()
            if number in seen:
                continue
            seen.add(number)
            nodes = self._nodes_of(number)
            if min(nodes) > last:
                continue
            for node in nodes:
                for user in self.nodes[node].users:
                    homes = self.homes(user)
                    if group.number in homes:
                        return False
                    pending += homes - seen
        return True

    def producer_nodes(self, index: int) -> list[Node]:
        """The nodes whose results the node reads."""
        return [self.nodes[source] for source in self.nodes[index].producers]
