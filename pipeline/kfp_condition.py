"""The conditions that TFX writes into a compiled pipeline, in the Common Expression Language, and what they say.

    !(inputs.artifacts['blessing'].artifacts[0].metadata['blessed'] == 1.0) && inputs.parameter_values['k'] > 3.0
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_IN_JSON = {"parameter_values": "parameterValues"}
"""A field as a condition has it -> as JSON has it."""


def holds(condition: str, inputs: Mapping[str, Any]) -> bool:
    """Whether a task is to run.

    Args:
      condition: of the comparisons, `!`, `&&`, `||`, `+` and look-ups that TFX makes.
      inputs: those of the task's ExecutorInput, as JSON has them.

    Raises:
      ValueError: the condition is of another kind.
      KeyError: it speaks of what the task is not given.
    """
    # Its grammar is Python's, but for three operators. No name of an artifact or a property has these signs.
    text = condition.replace("&&", " and ").replace("||", " or ")
    text = re.sub(r"!(?!=)", " not ", text)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not a condition as TFX writes them: {condition}") from error
    return bool(_value(tree, inputs, condition))


def _value(node: ast.expr, inputs: Mapping[str, Any], condition: str) -> Any:
    def of(child: ast.expr) -> Any:
        return _value(child, inputs, condition)

    match node:
        case ast.BoolOp(op=ast.And()):
            return all(of(child) for child in node.values)
        case ast.BoolOp(op=ast.Or()):
            return any(of(child) for child in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not of(node.operand)
        case ast.Compare(ops=[comparison]) if type(comparison) in _COMPARISONS:
            return _COMPARISONS[type(comparison)](of(node.left), of(node.comparators[0]))
        case ast.BinOp(op=ast.Add()):
            return of(node.left) + of(node.right)
        case ast.Constant():
            return node.value
        case ast.Name(id="inputs"):
            return inputs
        case ast.Attribute():
            return of(node.value)[_IN_JSON.get(node.attr, node.attr)]
        case ast.Subscript():
            return of(node.value)[of(node.slice)]
        case _:
            raise ValueError(f"not a condition as TFX writes them: {condition}")
