# SPDX-License-Identifier: Apache-2.0
"""Small models with control flow and shapes that depend on data, in ONNX's text form."""

from __future__ import annotations

import onnx
import onnx.parser

TEXTS = {
    # Shapes that depend on data.
    "nonzero": """(float[N, 3] x) => (int64[K, R] at, float[K] y) {
        i = NonZero(x)
        at = Transpose<perm = [1, 0]>(i)
        v = GatherND(x, at)
        y = Mul(v, v)
    }""",
    "compress": """(float[N, 3] x) => (float[M, 3] y) {
        s = ReduceSum<keepdims = 0>(x, axis)
        c = Greater(s, zero)
        kept = Compress<axis = 0>(x, c)
        y = Exp(kept)
    }""",
    "unique": """(float[N, 3] x) => (float[U] y, int64[U] counts) {
        y, first, where, counts = Unique<sorted = 1>(x)
    }""",
    "reshape": """(float[N, 3] x, int64[R] shape) => (float[] y, float[] z) {
        t = Reshape(x, shape)
        y = Relu(t)
        u = Add(t, t)
        z = Reshape(u, minus)
    }""",
    "range": """(float[N, 3] x, int64 n) => (int64[L] y) {
        r = Range(nought, n, unit)
        y = Mul(r, r)
    }""",
    # If.
    "if_ranks": """(float[N, 3] x) => (float[] y) {
        s = ReduceSum<keepdims = 0>(x)
        c = Greater(s, zero)
        y = If(c) <then_branch = yes () => (float[] a) { a = Relu(x) },
                   else_branch = no () => (float[] b) { n = Neg(x) b = Reshape(n, minus) }>
    }""",
    "if_nested": """(float[N, 3] x) => (float[N, 3] y) {
        s = ReduceSum<keepdims = 0>(x)
        big = Greater(s, ten)
        some = Greater(s, zero)
        twice = Add(x, x)
        y = If(some) <
            then_branch = yes () => (float[N, 3] a) {
                thrice = Add(twice, x)
                a = If(big) <then_branch = y2 () => (float[N, 3] c) { c = Mul(thrice, twice) },
                             else_branch = n2 () => (float[N, 3] d) { d = Sub(thrice, x) }>
            },
            else_branch = no () => (float[N, 3] b) { b = Identity(twice) }>
    }""",
    # Loop.
    "loop_count": """(float[N, 3] x, int64 m) => (float[N, 3] y, float[m, N, 3] all) {
        y, all = Loop(m, , x) <body = b (int64 i, bool go, float[N, 3] v) =>
            (bool on, float[N, 3] w, float[N, 3] each) {
            on = Identity(go)
            sum = Add(v, x)
            w = Mul(sum, half)
            f = Cast<to = 1>(i)
            each = Add(w, f)
        }>
    }""",
    "loop_while": """(float[N, 3] x, int64 m) => (float[N, 3] y, int64 steps) {
        start = Less(nought, m)
        y, steps = Loop(, start, x, nought) <body = b (int64 i, bool go, float[N, 3] v, int64 k) =>
            (bool on, float[N, 3] w, int64 k2) {
            w = Add(v, half)
            k2 = Add(k, unit)
            on = Less(k2, m)
        }>
    }""",
    "loop_growing": """(float[N, 3] x, int64 m) => (float[G, 3] y) {
        y = Loop(m, true, x) <body = b (int64 i, bool go, float[G, 3] v) => (bool on, float[H, 3] w) {
            on = Identity(go)
            n = Mul(x, half)
            w = Concat<axis = 0>(v, n)
        }>
    }""",
    "loop_swap": """(float[N, 3] x, int64 m) => (float[N, 3] p, float[N, 3] q) {
        p, q = Loop(m, true, x, half) <body = b (int64 i, bool go, float[] a, float[] c) =>
            (bool on, float[] d, float[] e) {
            on = Identity(go)
            d = Identity(c)
            e = Add(a, c)
        }>
    }""",
    "loop_nested": """(float[N, 3] x, int64 m) => (float[N, 3] y, float[K, 3] kept) {
        y = Loop(m, true, x) <body = b (int64 i, bool go, float[N, 3] v) => (bool on, float[N, 3] w) {
            on = Identity(go)
            twice = Add(v, x)
            w = Loop(i, true, twice) <body = b2 (int64 j, bool go2, float[N, 3] v2) =>
                (bool on2, float[N, 3] w2) {
                on2 = Identity(go2)
                f = Cast<to = 1>(i)
                odd = Greater(f, half)
                t = If(odd) <then_branch = y2 () => (float[N, 3] c) { c = Mul(v2, half) },
                             else_branch = n2 () => (float[N, 3] d) { d = Sub(v2, twice) }>
                w2 = Add(t, x)
            }>
        }>
        s = ReduceSum<keepdims = 0>(y, axis)
        c = Greater(s, zero)
        kept = Compress<axis = 0>(y, c)
    }""",
    "loop_data": """(float[N, 3] x, int64 m) => (float[N, 3] y) {
        y = Loop(m, true, x) <body = b (int64 i, bool go, float[N, 3] v) => (bool on, float[N, 3] w) {
            on = Identity(go)
            at = NonZero(v)
            count = Shape<start = 1>(at)
            f = Cast<to = 1>(count)
            part = Div(v, f)
            w = Relu(part)
        }>
    }""",
    # Scan.
    "scan": """(float[N, 3] x) => (float[3] last, float[N, 3] ys) {
        h0 = ReduceMax<keepdims = 0>(x, axis0)
        last, ys = Scan<num_scan_inputs = 1, body = b (float[3] h, float[3] s) => (float[3] g, float[3] o) {
            g = Add(h, s)
            o = Mul(g, s)
        }>(h0, x)
    }""",
    "scan_across": """(float[N, 3] x) => (float[N] last, float[N, 3] ys) {
        h0 = ReduceMax<keepdims = 0>(x, axis)
        last, ys = Scan<num_scan_inputs = 2, scan_input_axes = [1, -1], scan_input_directions = [1, 0],
                        scan_output_axes = [-1], scan_output_directions = [1],
                        body = b (float[N] h, float[N] s, float[N] t) => (float[N] g, float[N] o) {
            u = Mul(s, t)
            g = Add(h, u)
            o = Mul(g, s)
        }>(h0, x, x)
    }""",
}

CONSTANTS = """<float zero = {0.0}, float half = {0.5}, float ten = {10.0}, int64 nought = {0},
    int64 unit = {1}, int64[1] minus = {-1}, int64[1] axis = {1}, int64[1] axis0 = {0}, bool true = {1}>"""


def make(name: str) -> onnx.ModelProto:
    """The model of that name: x [N, 3] float32, and for some m (a number) or shape."""
    head, body = TEXTS[name].split("{", 1)
    text = f'<ir_version: 9, opset_import: ["" : 18]> {name} {head} {CONSTANTS} {{{body}'
    return onnx.parser.parse_model(text)
