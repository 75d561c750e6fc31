"""Parameters that stand still, chosen by patterns of their paths.

A path is the names from the model down to the parameter joined by '/', as `--mode=summary` prints them:
'conv_0/kernel'. In a pattern `*` stands for any characters, '/' included, and a pattern that names a layer means
everything in it: 'conv_0' is 'conv_0/*'.
"""

import fnmatch
from collections.abc import Sequence
from typing import Any

import jax

Tree = Any


def path_name(path: tuple[Any, ...]) -> str:
    """Returns a key path of a pytree as names joined by '/'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Returns whether one of the patterns means the parameter called `name`."""
    return any(fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}/*") for pattern in patterns)


def partition(tree: Tree, patterns: tuple[str, ...]) -> tuple[Tree, Tree]:
    """Returns (trainable, frozen): the same tree twice, each with None for the leaves that are in the other."""

    def keep(frozen: bool) -> Tree:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if matches(path_name(path), patterns) == frozen else None, tree
        )

    return keep(False), keep(True)


def combine(trainable: Tree, frozen: Tree) -> Tree:
    """Returns the tree that `partition` took apart."""
    return jax.tree.map(
        lambda one, other: other if one is None else one, trainable, frozen, is_leaf=lambda leaf: leaf is None
    )


def unmatched(tree: Tree, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the patterns that match no leaf of `tree`: always a mistake."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return tuple(pattern for pattern in patterns if not any(matches(name, (pattern,)) for name in names))


def listed(names: Sequence[str]) -> str:
    """Returns paths as a message says them: the first dozen, and how many more there are."""
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
