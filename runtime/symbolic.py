"""Symbolic integers: tensor dimensions, grids, buffer sizes and, in the compiler, index functions.

In: integers, symbol names, and text such as ``"8*s + (h + 1)//2"``. Out: `Expression`, an immutable integer
polynomial in normal form, so that two dimensions are equal exactly when their expressions compare equal wherever
polynomial algebra can tell. It exists because one engine must serve every shape: sizes stay symbols from the ONNX
file to the launch.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, Union

ExpressionLike: TypeAlias = Union["Expression", int, str]


@dataclass(frozen=True)
class Operation:
    """A non-polynomial atom: ``floordiv``, ``mod``, ``max`` or ``min`` of two expressions."""

    kind: str
    left: Expression
    right: Expression

    def __hash__(self) -> int:
        return hash((self.kind, hash(self.left), hash(self.right)))

    def __str__(self) -> str:
        if self.kind in ("max", "min"):
            return f"{self.kind}({self.left}, {self.right})"
        sign = {"floordiv": "//", "mod": "%"}[self.kind]
        return f"{_parenthesised(self.left)}{sign}{_parenthesised(self.right)}"


Atom: TypeAlias = str | Operation
Monomial: TypeAlias = tuple[Atom, ...]  # sorted, with repetition: s*s*n is ("n", "s", "s")
Extents: TypeAlias = Mapping[str, "Expression"]  # symbol -> e, meaning 0 <= symbol < e

_NO_EXTENTS: Extents = {}
_ONE_TERM = (((), 1),)


class Expression:
    """An integer polynomial over atoms, in normal form; immutable and hashable.

    Index functions make tens of thousands of them while a model compiles: hash and text are made when asked for.
    """

    __slots__ = ("_hash", "_key_or_none", "_text", "terms")
    terms: tuple[tuple[Monomial, int], ...]  # in no particular order; `ordered_terms` and the text are canonical

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = tuple([item for item in terms.items() if item[1]])
        self._key_or_none: Hashable = None
        self._hash: int | None = None
        self._text = ""

    # Construction -----------------------------------------------------------------------------------------------
    @staticmethod
    @lru_cache(maxsize=4096)
    def constant(value: int) -> Expression:
        return Expression({(): int(value)})

    @staticmethod
    def symbol(name: str) -> Expression:
        return Expression({(name,): 1})

    # Inspection -------------------------------------------------------------------------------------------------
    def as_constant(self) -> int | None:
        """The value when there is no symbol in it, else None."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0]:
            return self.terms[0][1]
        return None

    def as_symbol(self) -> str | None:
        """The name when the expression is exactly one symbol, else None."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            atom = self.terms[0][0][0]
            return atom if isinstance(atom, str) else None
        return None

    @property
    def symbols(self) -> frozenset[str]:
        """Names of all symbols, those inside divisions and maxima too."""
        return frozenset(self._symbols())

    def _symbols(self) -> Iterator[str]:
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, str):
                    yield atom
                else:
                    yield from atom.left._symbols()
                    yield from atom.right._symbols()

    def divisible_by(self, divisor: int) -> bool:
        """True when every coefficient is a multiple of `divisor`: a proof, not a guess."""
        return all(factor % divisor == 0 for _, factor in self.terms)

    def coefficient(self, name: str) -> Expression | None:
        """`c` when the expression is ``c*name + rest`` with `name` in neither; None when it is not linear in it."""
        found: dict[Monomial, int] = {}
        for monomial, factor in self.terms:
            count = monomial.count(name)
            if any(not isinstance(a, str) and name in (a.left.symbols | a.right.symbols) for a in monomial):
                return None
            if count > 1:
                return None
            if count == 1:
                rest = list(monomial)
                rest.remove(name)
                found[tuple(rest)] = found.get(tuple(rest), 0) + factor
        return Expression(found)

    def is_nonnegative(self, extents: Extents = _NO_EXTENTS) -> bool:
        """True when provably >= 0, given that symbols without an extent are >= 0 (dimensions) and atoms are."""
        if _plainly_nonnegative(self):
            return True
        lowest = self._bound(extents, upper=False)
        return lowest is not None and _plainly_nonnegative(lowest)

    def less_than(self, limit: ExpressionLike, extents: Extents = _NO_EXTENTS) -> bool:
        """True when provably ``self < limit`` for all symbol values within their extents."""
        highest = self._bound(extents, upper=True)
        if highest is None:
            return False
        return _plainly_nonnegative(expression(limit) - 1 - highest)

    def _bound(self, extents: Extents, upper: bool) -> Expression | None:
        total = ZERO
        for monomial, factor in self.terms:
            maximise = (factor > 0) == upper
            part = Expression.constant(factor)
            for atom in monomial:
                bound = _atom_bound(atom, extents, maximise)
                if bound is None or not _atom_nonnegative(atom):
                    return None
                part = part * bound
            total = total + part
        return total

    # Arithmetic -------------------------------------------------------------------------------------------------
    def __add__(self, other: ExpressionLike) -> Expression:
        right = expression(other)
        if not right.terms:
            return self
        if not self.terms:
            return right
        terms = dict(self.terms)
        for monomial, factor in right.terms:
            terms[monomial] = terms.get(monomial, 0) + factor
        return Expression(terms)

    __radd__ = __add__

    def __neg__(self) -> Expression:
        return Expression({monomial: -factor for monomial, factor in self.terms})

    def __sub__(self, other: ExpressionLike) -> Expression:
        right = expression(other)
        if not right.terms:
            return self
        terms = dict(self.terms)
        for monomial, factor in right.terms:
            terms[monomial] = terms.get(monomial, 0) - factor
        return Expression(terms)

    def __rsub__(self, other: ExpressionLike) -> Expression:
        return expression(other) - self

    def __mul__(self, other: ExpressionLike) -> Expression:
        right = expression(other)
        if right.terms == _ONE_TERM:
            return self
        if self.terms == _ONE_TERM:
            return right
        terms: dict[Monomial, int] = {}
        for left_monomial, left_factor in self.terms:
            for right_monomial, right_factor in right.terms:
                if not right_monomial:
                    monomial = left_monomial
                elif not left_monomial:
                    monomial = right_monomial
                else:
                    monomial = _sorted_monomial(left_monomial + right_monomial)
                terms[monomial] = terms.get(monomial, 0) + left_factor * right_factor
        return Expression(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: ExpressionLike) -> Expression:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: ExpressionLike) -> Expression:
        return floor_divide(expression(other), self)

    def __mod__(self, other: ExpressionLike) -> Expression:
        return modulo(self, other)

    def __rmod__(self, other: ExpressionLike) -> Expression:
        return modulo(expression(other), self)

    def ceil_divide(self, other: ExpressionLike) -> Expression:
        """ceil(self / other) for a positive divisor."""
        divisor = expression(other)
        return floor_divide(self + divisor - 1, divisor)

    def exact_divide(self, other: ExpressionLike) -> Expression | None:
        """The quotient when `other` divides `self` as a polynomial, else None."""
        divisor = expression(other)
        if len(divisor.terms) != 1:
            return _long_division(self, divisor) if divisor.terms else None
        monomial, factor = divisor.terms[0]
        quotient: dict[Monomial, int] = {}
        for own, own_factor in self.terms:
            rest = _without(own, monomial)
            if rest is None or own_factor % factor:
                return None
            quotient[rest] = own_factor // factor
        return Expression(quotient)

    # Values -----------------------------------------------------------------------------------------------------
    def evaluate(self, values: Mapping[str, int]) -> int:
        """The integer for the given symbol values. Raises KeyError naming a missing symbol, ZeroDivisionError."""
        total = 0
        for monomial, factor in self.terms:
            product = factor
            for atom in monomial:
                product *= values[atom] if isinstance(atom, str) else _evaluate(atom, values)
            total += product
        return total

    def substitute(self, values: Mapping[str, ExpressionLike], extents: Extents = _NO_EXTENTS) -> Expression:
        """Replace symbols by expressions, simplifying again."""
        if not values or not (self.symbols & values.keys()):
            return self
        total = ZERO
        for monomial, factor in self.terms:
            product = Expression.constant(factor)
            for atom in monomial:
                if isinstance(atom, str):
                    product = product * (expression(values[atom]) if atom in values else Expression.symbol(atom))
                else:
                    left, right = atom.left.substitute(values, extents), atom.right.substitute(values, extents)
                    product = product * _apply(atom.kind, left, right, extents)
            total = total + product
        return total

    # Identity and text ------------------------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return self.as_constant() == other
        if not isinstance(other, Expression):
            return False
        if len(self.terms) < 2 or len(other.terms) < 2:
            return self.terms == other.terms
        return len(self.terms) == len(other.terms) and hash(self) == hash(other) and self._key == other._key

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self._key)
        return self._hash

    @property
    def _key(self) -> Hashable:
        """The terms without their order."""
        if self._key_or_none is None:
            self._key_or_none = frozenset(self.terms) if len(self.terms) > 1 else self.terms
        return self._key_or_none

    @property
    def ordered_terms(self) -> list[tuple[Monomial, int]]:
        """The terms in the order of the text, whatever way the expression was computed."""
        return sorted(self.terms, key=_term_order) if len(self.terms) > 1 else list(self.terms)

    def __str__(self) -> str:
        if not self._text:
            self._text = self._written()
        return self._text

    def _written(self) -> str:
        if not self.terms:
            return "0"
        parts: list[str] = []
        for monomial, factor in self.ordered_terms:
            names = [
                a if isinstance(a, str) else f"({a})" if a.kind not in ("max", "min") else str(a) for a in monomial
            ]
            size = abs(factor)
            body = "*".join(([str(size)] if size != 1 or not names else []) + names)
            sign = "-" if factor < 0 else "+"
            parts.append(f" {sign} {body}" if parts else (f"-{body}" if factor < 0 else body))
        text = "".join(parts)
        if len(self.terms) == 1 and len(self.terms[0][0]) == 1 and self.terms[0][1] == 1 and text.startswith("("):
            return text[1:-1]
        return text

    def __repr__(self) -> str:
        return f"Expression({str(self)!r})"


def _sorted_monomial(atoms: Monomial) -> Monomial:
    if len(atoms) == 2:
        return atoms if str(atoms[0]) <= str(atoms[1]) else (atoms[1], atoms[0])
    return tuple(sorted(atoms, key=str))


def _term_order(term: tuple[Monomial, int]) -> tuple[int, str]:
    return (-len(term[0]), "*".join(str(atom) for atom in term[0]))


def _by_degree(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    """An order that multiplication by a monomial keeps."""
    return -len(term[0]), [str(atom) for atom in term[0]]


def _parenthesised(value: Expression) -> str:
    text = str(value)
    return text if text.isidentifier() or text.isdigit() else f"({text})"


def _without(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    rest = list(monomial)
    for atom in divisor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _plainly_nonnegative(value: Expression) -> bool:
    return all(factor >= 0 and all(map(_atom_nonnegative, monomial)) for monomial, factor in value.terms)


def _atom_nonnegative(atom: Atom) -> bool:
    """Symbols are sizes or positions, hence >= 0; divisors are positive."""
    if isinstance(atom, str) or atom.kind == "mod":
        return True
    if atom.kind == "max":
        return _plainly_nonnegative(atom.left) or _plainly_nonnegative(atom.right)
    left = _plainly_nonnegative(atom.left)
    return left if atom.kind == "floordiv" else left and _plainly_nonnegative(atom.right)


def _atom_bound(atom: Atom, extents: Extents, upper: bool) -> Expression | None:
    if isinstance(atom, str):
        if atom in extents:
            return extents[atom] - 1 if upper else ZERO
        return Expression.symbol(atom)  # a dimension bounds itself
    if atom.kind == "mod":
        return atom.right - 1 if upper else ZERO
    if atom.kind == "floordiv":
        divisor = atom.right.as_constant()
        inner = atom.left._bound(extents, upper)
        if inner is None or divisor is None:
            return None if upper or not _plainly_nonnegative(atom.left) else ZERO
        return floor_divide(inner, divisor)
    return Expression({(atom,): 1}) if not (atom.left.symbols | atom.right.symbols) & extents.keys() else None


def _evaluate(operation: Operation, values: Mapping[str, int]) -> int:
    left, right = operation.left.evaluate(values), operation.right.evaluate(values)
    if operation.kind == "floordiv":
        return left // right
    if operation.kind == "mod":
        return left % right
    return max(left, right) if operation.kind == "max" else min(left, right)


def _apply(kind: str, left: Expression, right: Expression, extents: Extents) -> Expression:
    if kind == "floordiv":
        return floor_divide(left, right, extents)
    if kind == "mod":
        return modulo(left, right, extents)
    return maximum(left, right) if kind == "max" else minimum(left, right)


def _long_division(value: Expression, divisor: Expression) -> Expression | None:
    """The quotient of polynomials when nothing remains: leading terms are divided, one after the other."""
    lead = min(divisor.terms, key=_by_degree)
    quotient = ZERO
    while value.terms:
        own, own_factor = min(value.terms, key=_by_degree)
        rest = _without(own, lead[0])
        if rest is None or own_factor % lead[1]:
            return None
        term = Expression({rest: own_factor // lead[1]})
        quotient, value = quotient + term, value - term * divisor
    return quotient


def _split(value: Expression, divisor: Expression) -> tuple[Expression, Expression]:
    """(quotient, rest) with ``value == quotient*divisor + rest``, moving whole multiples of the divisor out."""
    if len(divisor.terms) != 1:
        exact = value.exact_divide(divisor)
        return (ZERO, value) if exact is None else (exact, ZERO)
    monomial, factor = divisor.terms[0]
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for own, own_factor in value.terms:
        left_over = _without(own, monomial)
        if left_over is None:
            rest[own] = own_factor
            continue
        # A constant term is reduced to its residue; symbolic terms move out only when they divide exactly.
        whole, residue = divmod(own_factor, factor)
        if residue and own:
            rest[own] = own_factor
            continue
        quotient[left_over] = whole
        if residue:
            rest[own] = residue
    return Expression(quotient), Expression(rest)


def floor_divide(value: ExpressionLike, divisor: ExpressionLike, extents: Extents = _NO_EXTENTS) -> Expression:
    """value // divisor for a positive divisor, simplified with what the extents of index symbols prove."""
    left, right = expression(value), expression(divisor)
    constant = right.as_constant()
    if constant == 1:
        return left
    if constant == 0:
        raise ZeroDivisionError(f"{left} // 0")
    if left == right:
        return ONE
    quotient, rest = _split(left, right)
    if not rest.terms or (rest.is_nonnegative(extents) and rest.less_than(right, extents)):
        return quotient
    own = rest.as_constant()
    if own is not None and constant is not None:
        return quotient + own // constant
    coarse = _without_residue(rest, constant, extents) if constant else None
    if coarse is not None:
        unit, multiple, _ = coarse
        return quotient + floor_divide(multiple, (constant or 1) // unit, extents)
    nested = _nested_division(rest) if constant is not None else None
    if nested is not None:
        # (a//b + e)//c == (a + b*e)//(b*c) for integers and positive b, c.
        inner, others = nested
        return quotient + floor_divide(inner.left + inner.right * others, inner.right * right, extents)
    return quotient + Expression({(Operation("floordiv", rest, right),): 1})


def modulo(value: ExpressionLike, divisor: ExpressionLike, extents: Extents = _NO_EXTENTS) -> Expression:
    """value mod divisor (the result has the sign of the divisor, as in Python) for a positive divisor."""
    left, right = expression(value), expression(divisor)
    constant = right.as_constant()
    if constant == 1 or left == right:
        return ZERO
    _, rest = _split(left, right)
    if not rest.terms or (rest.is_nonnegative(extents) and rest.less_than(right, extents)):
        return rest
    own = rest.as_constant()
    if own is not None and constant is not None:
        return Expression.constant(own % constant)
    coarse = _without_residue(rest, constant, extents) if constant else None
    if coarse is not None:
        unit, multiple, residue = coarse
        return modulo(multiple, (constant or 1) // unit, extents) * unit + residue
    return Expression({(Operation("mod", rest, right),): 1})


def _without_residue(value: Expression, divisor: int, extents: Extents) -> tuple[int, Expression, Expression] | None:
    """(u, A, B) with ``value == u*A + B``, u dividing `divisor` and 0 <= B < u provably; then value//d == A//(d/u)."""
    factors = sorted({math.gcd(factor, divisor) for _, factor in value.terms}, reverse=True)
    for unit in factors:
        if unit <= 1:
            break
        residue = Expression({monomial: factor for monomial, factor in value.terms if factor % unit})
        if residue == value or not (residue.is_nonnegative(extents) and residue.less_than(unit, extents)):
            continue
        multiple = Expression({monomial: factor // unit for monomial, factor in value.terms if factor % unit == 0})
        return unit, multiple, residue
    return None


def _nested_division(value: Expression) -> tuple[Operation, Expression] | None:
    """(a//b, e) when the value is ``a//b + e`` with a constant b and no other division or remainder in e."""
    found: Operation | None = None
    for monomial, factor in value.terms:
        for atom in monomial:
            if isinstance(atom, str):
                continue
            if found is not None or len(monomial) > 1 or factor != 1 or atom.kind != "floordiv":
                return None
            found = atom
    if found is None or found.right.as_constant() is None:
        return None
    return found, value - Expression({(found,): 1})


def maximum(left: ExpressionLike, right: ExpressionLike) -> Expression:
    """max of two expressions; decided at once where the difference is a constant."""
    return _extremum("max", expression(left), expression(right))


def minimum(left: ExpressionLike, right: ExpressionLike) -> Expression:
    """min of two expressions; decided at once where the difference is a constant."""
    return _extremum("min", expression(left), expression(right))


def _extremum(kind: str, left: Expression, right: Expression) -> Expression:
    gap = (left - right).as_constant()
    if gap is not None:
        return left if (gap >= 0) == (kind == "max") else right
    first, second = sorted((left, right), key=str)
    return Expression({(Operation(kind, first, second),): 1})


def expression(value: ExpressionLike) -> Expression:
    """An `Expression` from an expression, an integer or its text form."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, str):
        return parse(value)
    return Expression.constant(value)


@lru_cache(maxsize=65536)
def parse(text: str) -> Expression:
    """Read the text form. Raises ValueError for anything but integers, names, + - * // %, max and min."""
    try:
        tree = ast.parse(text, mode="eval").body
        return _from_tree(tree, text)
    except (SyntaxError, RecursionError, ZeroDivisionError) as error:
        raise ValueError(f"not a symbolic integer: {text!r}") from error


def _from_tree(node: ast.expr, text: str) -> Expression:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Expression.constant(node.value)
    if isinstance(node, ast.Name):
        return Expression.symbol(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_from_tree(node.operand, text)
    if isinstance(node, ast.BinOp):
        left, right = _from_tree(node.left, text), _from_tree(node.right, text)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.FloorDiv):
            return floor_divide(left, right)
        if isinstance(node.op, ast.Mod):
            return modulo(left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
        left, right = _from_tree(node.args[0], text), _from_tree(node.args[1], text)
        if node.func.id == "max":
            return maximum(left, right)
        if node.func.id == "min":
            return minimum(left, right)
    raise ValueError(f"not a symbolic integer: {text!r}")


def product(values: list[Expression] | tuple[Expression, ...]) -> Expression:
    """The product of all; 1 for none."""
    total = ONE
    for value in values:
        total = total * value
    return total


ZERO = Expression({})
ONE = Expression({(): 1})
