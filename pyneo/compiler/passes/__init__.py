# SPDX-License-Identifier: Apache-2.0
"""The compiler's passes: an ordered list of small rules, each a function of the graph.

A pass returns True if it changed anything. `optimise` runs the list again until nothing changes: one
rule's result is often another's pattern.
"""

from __future__ import annotations

from collections.abc import Callable

from pyneo.compiler.ir.graph import Graph
from pyneo.compiler.passes.attention import find_head_attention, pack_heads, turn_whole
from pyneo.compiler.passes.branches import merge_branches
from pyneo.compiler.passes.computed import computed_kernels
from pyneo.compiler.passes.control import inline_constant_if, unroll_loops
from pyneo.compiler.passes.dead import remove_dead
from pyneo.compiler.passes.einsum import einsum_to_matmul
from pyneo.compiler.passes.epilogue import find_silu, fuse_activations, fuse_residuals
from pyneo.compiler.passes.identity import (
    drop_expands,
    gather_all,
    merge_reshapes,
    merge_transposes,
    remove_identities,
    share_equal_nodes,
)
from pyneo.compiler.passes.images import (
    crop_kernels,
    find_group_norm,
    fold_pads,
    pool_planes,
    shuffle_by_weights,
    split_far_taps,
)
from pyneo.compiler.passes.infer import infer_and_fold
from pyneo.compiler.passes.linear import (
    fold_batch_norm,
    fold_scale_into_matmul,
    fold_scales,
    gemm_to_matmul,
    matmul_bias,
    norm_to_scale,
    pixels_to_matmul,
)
from pyneo.compiler.passes.phases import split_phases, split_volumes, widen_outputs
from pyneo.compiler.passes.projections import split_products
from pyneo.compiler.passes.pyramid import merge_pointwise, mix_before_resize
from pyneo.compiler.passes.quantised import dequantize_early, quantised_products, round_in_place
from pyneo.compiler.passes.reductions import write_out_reductions
from pyneo.compiler.passes.rms_norm import find_rms_norm
from pyneo.compiler.passes.scattered import boxes_to_slices, scatter_rows
from pyneo.compiler.passes.sequences import refuse_unresolved, resolve_sequences
from pyneo.compiler.passes.slices import slices_to_split
from pyneo.compiler.passes.tokens import images_to_tokens, tokens_to_images
from pyneo.compiler.passes.transformer import find_attention, find_gelu, find_layer_norm
from pyneo.compiler.passes.turned import mix_from_the_left

Pass = Callable[[Graph], bool]

# Order matters in three places: patterns are looked for before epilogues hide their pieces; batch norm folds
# before it is written out; residuals are taken before the activation behind the sum.
PASSES: list[Pass] = [
    infer_and_fold,
    inline_constant_if,
    resolve_sequences,
    unroll_loops,
    remove_dead,
    remove_identities,
    drop_expands,
    einsum_to_matmul,
    quantised_products,
    dequantize_early,
    round_in_place,
    gather_all,
    boxes_to_slices,
    scatter_rows,
    slices_to_split,
    merge_reshapes,
    merge_transposes,
    share_equal_nodes,
    write_out_reductions,
    fold_pads,
    crop_kernels,
    pool_planes,
    find_group_norm,
    shuffle_by_weights,
    find_gelu,
    find_layer_norm,
    find_rms_norm,
    find_silu,
    turn_whole,
    find_attention,
    find_head_attention,
    pack_heads,
    fold_batch_norm,
    fold_scales,
    merge_branches,
    split_far_taps,
    split_phases,
    split_volumes,
    widen_outputs,
    computed_kernels,
    norm_to_scale,
    gemm_to_matmul,
    matmul_bias,
    split_products,
    fold_scale_into_matmul,
    remove_dead,  # what is dead reads nothing
    tokens_to_images,
    images_to_tokens,
    mix_from_the_left,
    mix_before_resize,
    merge_pointwise,
    fuse_residuals,
    fuse_activations,
    pixels_to_matmul,
    remove_dead,
]

_ROUNDS = 12


def optimise(
    graph: Graph, passes: list[Pass] = PASSES, progress: Callable[[str], None] | None = None
) -> None:
    """Runs the passes in order, on the model's graph and all below it, until a round changes nothing."""
    for _ in range(_ROUNDS):
        changed = False
        for rule in passes:
            graph.symbols.budget.check_time()
            if progress is not None:
                progress(rule.__name__.replace("_", " "))
            if rule is infer_and_fold:  # it follows the control flow by itself
                changed |= infer_and_fold(graph)
                continue
            if any([rule(g) for g in graph.walk()]):
                changed = True
                infer_and_fold(graph)
        if not changed:
            break
    refuse_unresolved(graph)
