# SPDX-License-Identifier: Apache-2.0
"""Transformer encoders as torch exports them: BERT by Hugging Face's eager attention, ViT as timm has it."""

from __future__ import annotations

import numpy as np

from nets.builder import Builder

TOKENS = 128


def _bert(name: str, hidden: int, layers: int, heads: int, opset: int, seed: int) -> Builder:
    b = Builder(name, opset, seed)
    decomposed = opset < 17
    vocabulary, head = 30522, hidden // heads
    rng = np.random.default_rng(7)
    ids = b.input("input_ids", rng.integers(0, vocabulary, (1, TOKENS)))
    mask = b.input("attention_mask", np.ones((1, TOKENS), np.int64))
    types = b.input("token_type_ids", np.zeros((1, TOKENS), np.int64))

    def norm(x: str) -> str:
        return b.layer_norm(x, hidden, 1e-12, decomposed)

    def axes(value: str, axis: int) -> str:
        return b.op("Unsqueeze", value, b.ints(axis))

    inverted = b.op("Sub", b.const(1.0), b.op("Cast", axes(axes(mask, 1), 2), to=1))
    bias = b.op("Mul", inverted, b.const(np.finfo(np.float32).min))
    x = b.op("Gather", b.weight((vocabulary, hidden), 0.7), ids)
    x = b.op("Add", x, b.op("Gather", b.weight((2, hidden), 0.7), types))
    x = norm(
        b.op(
            "Add", x, b.op("Gather", b.weight((512, hidden), 0.3), b.const(np.arange(TOKENS)[None], np.int64))
        )
    )

    def split_heads(value: str, perm: list[int]) -> str:
        shaped = b.op("Reshape", value, b.ints(1, TOKENS, heads, head))
        return b.op("Transpose", shaped, perm=perm)

    for _ in range(layers):
        q = split_heads(b.linear(x, hidden, hidden), [0, 2, 1, 3])
        k = split_heads(b.linear(x, hidden, hidden), [0, 2, 3, 1])
        v = split_heads(b.linear(x, hidden, hidden), [0, 2, 1, 3])
        scores = b.op("Add", b.op("Div", b.op("MatMul", q, k), b.const(np.sqrt(head))), bias)
        y = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        y = b.linear(b.op("Reshape", y, b.ints(1, TOKENS, hidden)), hidden, hidden)
        x = norm(b.op("Add", y, x))
        y = b.linear(b.gelu(b.linear(x, hidden, 4 * hidden)), 4 * hidden, hidden, gain=2.0)
        x = norm(b.op("Add", y, x))
    first = b.op("Gather", x, b.const(0, np.int64), axis=1)
    pooled = b.op("Tanh", b.gemm(first, hidden, hidden))
    b.output(x, (1, TOKENS, hidden), "last_hidden_state")
    b.output(pooled, (1, hidden), "pooler_output")
    return b


def bert_base() -> Builder:
    """Devlin et al. 2018: 12 layers of 768, 12 heads, 128 tokens; LayerNormalization as one node."""
    return _bert("bert_base", 768, 12, 12, opset=17, seed=6)


def minilm_l6() -> Builder:
    """Wang et al. 2020: 6 layers of 384, 12 heads; an older operator set, LayerNorm in pieces."""
    return _bert("minilm_l6", 384, 6, 12, opset=14, seed=7)


def vit_small() -> Builder:
    """Dosovitskiy et al. 2020 at 224/16: 12 layers of 384, 6 heads; query, key and value from one MatMul."""
    b = Builder("vit_small", opset=17, seed=8)
    hidden, heads, head, tokens = 384, 6, 64, 197
    x = b.conv(b.image(3, 224, 224), 3, hidden, 16, 16, pads=[0, 0, 0, 0], gain=1.0)
    x = b.op("Transpose", b.op("Reshape", x, b.ints(1, hidden, 196)), perm=[0, 2, 1])
    x = b.op("Concat", b.weight((1, 1, hidden), 1.0, "cls"), x, axis=1)
    x = b.op("Add", x, b.weight((1, tokens, hidden), 0.3, "positions"))
    for _ in range(12):
        y = b.linear(b.layer_norm(x, hidden, 1e-6), hidden, 3 * hidden)
        y = b.op("Transpose", b.op("Reshape", y, b.ints(1, tokens, 3, heads, head)), perm=[2, 0, 3, 1, 4])
        q, k, v = (b.op("Squeeze", s, b.ints(0)) for s in b.ops("Split", 3, y, b.ints(1, 1, 1), axis=0))
        # scaled_dot_product_attention shares the scale between query and key.
        scale = b.const(head**-0.25)
        k = b.op("Mul", b.op("Transpose", k, perm=[0, 1, 3, 2]), scale)
        p = b.op("Softmax", b.op("MatMul", b.op("Mul", q, scale), k), axis=-1)
        y = b.op("Transpose", b.op("MatMul", p, v), perm=[0, 2, 1, 3])
        x = b.op("Add", x, b.linear(b.op("Reshape", y, b.ints(1, tokens, hidden)), hidden, hidden, gain=0.2))
        y = b.gelu(b.linear(b.layer_norm(x, hidden, 1e-6), hidden, 4 * hidden))
        x = b.op("Add", x, b.linear(y, 4 * hidden, hidden, gain=0.5))
    first = b.op("Gather", b.layer_norm(x, hidden, 1e-6), b.const(0, np.int64), axis=1)
    b.output(b.gemm(first, hidden, 1000), (1, 1000), "output")
    return b
