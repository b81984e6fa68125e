"""The type checker of the import hook in conftest.py: an int is a float, as PEP 484 has it.

Functions inside of functions stay as they are: they would be decorated at each call of the outer
one, which takes longer than most of these calls.
"""

import ast

from beartype import BeartypeConf, beartype
from jaxtyping._import_hook import JaxtypingTransformer

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_decorate = JaxtypingTransformer.visit_FunctionDef


def _visit(self, node: ast.FunctionDef) -> ast.FunctionDef:
    inner, node.body = node.body, []
    _decorate(self, node)
    node.body = inner
    return node


JaxtypingTransformer.visit_FunctionDef = _visit
