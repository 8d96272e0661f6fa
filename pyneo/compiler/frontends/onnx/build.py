# SPDX-License-Identifier: Apache-2.0
"""Walks an ONNX graph and builds the IR: resolves names, normalises nodes, inlines functions.

Problems are collected, not raised, so that the user sees all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

import numpy as np
import onnx

from ....errors import CompileError
from ...ir.graph import CONTROL_FLOW, STRUCTURAL, Attr, DType, Graph, Node, Value
from . import schemas
from .attributes import Attrs, read_attributes
from .external import ExternalFiles
from .flow import check_flow
from .functions import Functions, Key, domain_of, key_of, without
from .inputs import declared_type, graph_inputs, tensor_type
from .limits import MAX_PROBLEMS, Abandon, Budget, Problem
from .normalize import RULES, Op, normalize
from .scope import Scope, in_order
from .strings import Strings, check_text

# Stands in a function's key for its overload when the standard defines it, not the model.
STANDARD_BODY = "defined by the standard"


class Importer:
    """One import: what was found so far, and what went wrong."""

    def __init__(self, model: onnx.ModelProto, files: ExternalFiles, operators: Container[str]) -> None:
        self.model = model
        self.files = files
        self.operators = operators
        self.problems: list[str] = []
        self.unsupported: dict[str, list[str]] = {}
        self.budget = Budget()
        self.strings = Strings()
        self.keys: dict[Value, list[int] | list[str]] = {}  # results of ZipMap
        self.names: set[str] = set()
        self.graph = Graph("", [], [])
        self.functions = Functions(model.functions)
        self.calling: list[Key] = []
        self.scope = Scope(files, {})
        self.where = ""  # name of the node being imported; prefixes values it makes

    # --- the model ---------------------------------------------------------------------------------

    def run(self, shapes: Mapping[str, Sequence[int | str]] | None) -> Graph:
        """The whole model. CompileError with every problem if there is any."""
        try:
            graph = self._model(shapes)
        except Abandon as e:
            self.problems.append(str(e))
        for op, nodes in self.unsupported.items():
            more = f" and {len(nodes) - 8} more" if len(nodes) > 8 else ""
            listed = ", ".join(repr(n) for n in nodes[:8])
            self.problems.append(f"operator {op} is not supported (nodes {listed}{more})")
        if self.problems:
            raise failure(self.problems)
        return graph

    def _model(self, shapes: Mapping[str, Sequence[int | str]] | None) -> Graph:
        for domain, name, _ in self.functions.twice:
            self.problem(f"function {name!r} of domain {domain!r} is defined twice")
        self.scope = Scope(self.files, self.opsets(self.model.opset_import))
        proto = self.model.graph
        for name in self.scope.store(proto):
            self.problem(f"the initialiser {name!r} is given twice")
        self.graph = graph = Graph(proto.name, [], [])
        inputs, problems = graph_inputs([i for i in proto.input if not self.scope.stores(i.name)], shapes)
        self.problems.extend(problems)
        for v in inputs:
            if self.scope.owns(v.name):
                self.problem(f"the graph input {v.name!r} is given twice")
            self.scope.values[v.name] = v
            self.names.add(v.name)
        graph.inputs = inputs
        self.names.update(o.name for o in proto.output)
        for o in proto.output:
            self.scope.pending[o.name] = Value(o.name)
        self.nodes(proto.node, self.scope)
        for i, o in enumerate(proto.output):
            graph.outputs.append(self.result(o, f"the graph output {o.name!r}", lambda o: tensor_type(o)[0]))
            if graph.outputs[i] in self.keys:
                graph.text.keys[i] = self.keys[graph.outputs[i]]
        self.strings.encode(graph)
        return graph

    def result(
        self, o: onnx.ValueInfoProto, what: str, type_of: Callable[[onnx.ValueInfoProto], DType]
    ) -> Value:
        """What a graph output stands for, checked against its declared element type."""
        try:
            v = self.scope.find(o.name)
            if v is None:
                raise Problem("nothing produces it")
            if v in self.keys:
                return v
            declared = type_of(o)
            if DType.NONE not in (declared, v.dtype) and declared is not v.dtype:
                raise Problem(f"it is declared {declared.name}, but its producer gives {v.dtype.name}")
        except Problem as e:
            self.problem(f"{what}: {e}")
            return Value(o.name)
        return v

    def opsets(self, imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
        """Operator set by domain; sets that do not exist are problems."""
        found: dict[str, int] = {}
        for i in imports:
            domain = domain_of(i.domain)
            limit = schemas.NEWEST.get(domain)
            if i.version < 1 or (limit is not None and i.version > limit):
                known = f"1 to {limit}" if limit else "1 or more"
                self.problem(
                    f"operator set {i.version} of domain {domain or 'ai.onnx'!r} is unknown; "
                    f"expected {known}, so "
                    "export the model with one of these"
                )
            found[domain] = max(found.get(domain, 0), min(max(i.version, 1), limit or i.version))
        if "" not in found and self.model.ir_version < 3:
            found[""] = 1
        return found

    def problem(self, sentence: str) -> None:
        self.problems.append(sentence)
        if len(self.problems) >= MAX_PROBLEMS:
            raise Abandon(f"the list of problems ends here, at {MAX_PROBLEMS}")

    # --- nodes ---------------------------------------------------------------------------------------

    def nodes(self, protos: Iterable[onnx.NodeProto], scope: Scope) -> None:
        """Imports nodes into the current graph."""
        try:
            ordered = in_order(protos, scope)
        except Problem as e:
            self.problem(str(e))
            return
        outer, where = self.scope, self.where
        self.scope = scope
        for i, proto in enumerate(ordered):
            self.budget.step()
            self.where = scope.prefix + (proto.name or f"{proto.op_type}_{i}")
            try:
                self.node(proto)
            except Problem as e:
                self.problem(f"node {self.where!r} ({proto.op_type}): {e}")
                for name in proto.output:  # so that its readers are not problems, too
                    if name and name not in scope.values:
                        scope.values[name] = Value(name)
        self.scope, self.where = outer, where

    def node(self, proto: onnx.NodeProto) -> None:
        scope = self.scope
        domain = domain_of(proto.domain)
        key = key_of(proto)
        function = self.functions.get(key)
        version = scope.opsets.get(domain)
        if version is None:
            if function is None and domain != "":
                raise Problem(
                    f"its domain {domain!r} is not among the model's operator sets ({_listed(scope.opsets)})"
                )
            if function is None:
                raise Problem(
                    "the model names no operator set for the standard domain; expected an opset_import"
                )
            version = 1
        inputs = [self.read(name) for name in proto.input]
        full = f"{domain}.{proto.op_type}" if domain else proto.op_type
        s = None
        if function is None and domain in schemas.STANDARD:
            s = schemas.schema(domain, proto.op_type, version)
            if s is not None:
                schemas.check_node(s, proto)
            elif full not in RULES:
                raise Problem(
                    f"operator set {version} of domain {domain or 'ai.onnx'!r} has no operator of that name"
                )
        attrs = read_attributes(proto.attribute, self.files, scope.bound)
        outputs = [self.define(name) if name else self.unnamed(s, k) for k, name in enumerate(proto.output)]
        if function is not None:
            self.inline(key, function, inputs, outputs, attrs)
            return
        op = Op(full, version, self.where, inputs, outputs, attrs)
        if not normalize(op, self):
            self.emit_into(op.type, op.inputs, op.attrs, op.outputs)

    def read(self, name: str) -> Value | None:
        if not name:
            return None
        v = self.scope.find(name)
        if v is None:
            raise Problem(f"it reads {name!r}, which no input, initialiser or node before it provides")
        return v

    def unnamed(self, schema: onnx.defs.OpSchema | None, k: int) -> Value | None:
        """Output k that the model leaves out: None if it is optional, else a value that nothing reads."""
        if schema is None or not schema.outputs:
            return None
        formal = schema.outputs[min(k, len(schema.outputs) - 1)]
        if formal.option == onnx.defs.OpSchema.FormalParameterOption.Optional:
            return None
        return Value(self.unique(f"{self.where}/unused"))

    def define(self, name: str) -> Value:
        """The value a node's output name stands for from here on."""
        scope = self.scope
        if scope.owns(name):
            raise Problem(f"it defines {name!r}, which exists already; every name may have one producer")
        v = scope.pending.pop(name, None) or Value(self.unique(scope.prefix + name))
        scope.values[name] = v
        return v

    def unique(self, stem: str) -> str:
        name, n = stem, 1
        while name in self.names:
            name, n = f"{stem}#{n}", n + 1
        self.names.add(name)
        return name

    # --- what normalisation rules ask for (normalize.rule.Emitter) --------------------------------------

    def const(self, array: np.ndarray, dtype: DType | None = None) -> Value:
        return Value.constant(self.unique(f"{self.where}/const"), array, dtype)

    def emit(
        self, op: str, inputs: Sequence[Value | None], attrs: Attrs | None = None, *, outputs: int = 1
    ) -> list[Value]:
        made = [Value(self.unique(f"{self.where}/{op.lower()}")) for _ in range(outputs)]
        self.emit_into(op, inputs, attrs, made)
        return made

    def become(self, output: Value, constant: Value) -> None:
        output.const, output.dtype, output.shape = constant.const, constant.dtype, constant.shape

    def code(self, text: str) -> int:
        return self.strings.code(text)

    def rows_as_dicts(self, output: Value, keys: list[int] | list[str]) -> None:
        self.keys[output] = keys

    def emit_into(
        self, op: str, inputs: Sequence[Value | None], attrs: Attrs | None, outputs: Sequence[Value | None]
    ) -> None:
        attrs = dict(attrs or {})
        ins, outs = _stripped(inputs), _stripped(outputs)
        if op in CONTROL_FLOW:  # what is absent at the end has its place among what subgraphs take and give
            outs = list(outputs)
            ins += [None] * (2 - len(ins) if op == "Loop" else 0)
        for v in ins:
            if v in self.keys:
                raise Problem(f"it reads {v.name!r}, the dicts that a ZipMap makes; read the ZipMap's input")
        check_text(op, ins, attrs)
        subgraphs = [self.subgraph(attrs.pop(name)) for name in CONTROL_FLOW.get(op, ())]
        if op not in self.operators:
            if not self.expand(op, ins, attrs, outs):
                self.unsupported.setdefault(op, []).append(self.where)
            return
        self.graph.nodes.append(self.made(op, ins, attrs, outs, subgraphs))

    def made(
        self,
        op: str,
        ins: list[Value | None],
        attrs: Attrs,
        outs: list[Value | None],
        subgraphs: Sequence[Graph] = (),
    ) -> Node:
        if not subgraphs:
            types = schemas.result_types(op, ins, attrs, len(outs))
        elif op in STRUCTURAL:
            types = [DType.NONE] * len(outs)
        else:
            results = subgraphs[0].outputs[1:] if op == "Loop" else subgraphs[0].outputs
            types = [v.dtype for v in results]
        check_flow(op, ins, attrs, outs, subgraphs)
        for v, t in zip(outs, types, strict=False):
            if v is not None and v.dtype is DType.NONE:
                v.dtype = t
        return Node(op, self.unique(self.where), ins, outs, _plain(attrs), list(subgraphs))

    # --- functions and subgraphs ------------------------------------------------------------------------

    def expand(self, op: str, ins: list[Value | None], attrs: Attrs, outs: list[Value | None]) -> bool:
        """Puts the standard's own definition of an operator that the core lacks in its place."""
        domain, _, name = op.rpartition(".")
        s = schemas.newest(domain, name)
        if s is None:
            return False
        attrs = schemas.with_defaults(s, attrs)
        body = schemas.function_body(s, ins, attrs, len(outs))
        if body is None:
            return False
        self.inline((domain, name, STANDARD_BODY), body, ins, outs, attrs)
        return True

    def inline(
        self,
        key: Key,
        function: onnx.FunctionProto,
        ins: Sequence[Value | None],
        outs: Sequence[Value | None],
        attrs: Attrs,
    ) -> None:
        """A call of a function, its body copied into the current graph."""
        if not self.calling and self.functions.get(key) is function:
            self.budget.afford(self.functions.size(key))
        if key in self.calling:
            raise Problem(f"function {function.name!r} calls itself; recursion has no meaning in a graph")
        if len(ins) > len(function.input) or len(outs) > len(function.output):
            raise Problem(
                f"it calls {function.name!r} with {len(ins)} inputs and {len(outs)} outputs; the "
                "function has "
                f"{len(function.input)} and {len(function.output)}"
            )
        bound = read_attributes(function.attribute_proto, self.files)
        bound.update(attrs)
        opsets = self.opsets(function.opset_import)
        if key[2] == STANDARD_BODY:
            opsets.setdefault("", schemas.NEWEST[""])
        scope = Scope(self.files, opsets, bound=bound, prefix=f"{self.where}/")
        for i, name in enumerate(function.input):
            v = ins[i] if i < len(ins) else None
            if v is not None:
                scope.values[name] = v
        self._body(
            function.node, scope, dict(zip(function.output, outs, strict=False)), key, set(function.input)
        )

    def scan_rows(self, op: Op, body: object, attrs: Attrs) -> None:
        """A Scan over the leading axis of all inputs; each step is the Scan of `body` and `attrs`."""
        rows: list[Value | None] = [
            Value(self.unique(f"{self.where}/row"), v.dtype if v is not None else DType.NONE)
            for v in op.inputs
        ]
        results: list[Value | None] = [Value(self.unique(f"{self.where}/result")) for _ in op.outputs]
        step = self.made("Scan", rows, attrs, results, [self.subgraph(body)])
        whole = Graph("rows", [v for v in rows if v], [v for v in results if v], [step], self.graph.symbols)
        count: Attrs = {"num_scan_inputs": [len(op.inputs)]}
        self.graph.nodes.append(self.made("Scan", op.inputs, count, op.outputs, [whole]))

    def splice(self, op: Op, branch: str) -> None:
        proto = op.attrs[branch]
        assert isinstance(proto, onnx.GraphProto)
        if len(proto.output) != len(op.outputs):
            raise Problem(f"its {branch} has {len(proto.output)} outputs, the node {len(op.outputs)}")
        scope = Scope(self.files, self.scope.opsets, self.scope, self.scope.bound, f"{self.where}/")
        scope.store(proto)
        self._body(proto.node, scope, dict(zip((o.name for o in proto.output), op.outputs, strict=True)))

    def _body(
        self,
        nodes: Iterable[onnx.NodeProto],
        scope: Scope,
        results: dict[str, Value | None],
        key: Key | None = None,
        optional: Collection[str] = (),
    ) -> None:
        """Nodes of a body in the current graph; `results` maps its output names to the caller's values."""
        for name, v in results.items():
            if v is not None:
                scope.pending[name] = v
        if key is not None:
            self.calling.append(key)
        self.budget.enter()
        self.nodes(without(nodes, {name: None for name in optional if name not in scope.values}), scope)
        self.budget.leave()
        if key is not None:
            self.calling.pop()
        for name, v in results.items():
            found = scope.find(name)
            if v is not None and found is not v:
                if found is None:
                    raise Problem(f"its body does not produce the output {name!r}")
                self.emit_into("Identity", [found], None, [v])

    def subgraph(self, proto: object) -> Graph:
        """A graph attribute as an IR graph of its own, which sees the names around it."""
        assert isinstance(proto, onnx.GraphProto)
        outer_graph, outer_scope = self.graph, self.scope
        scope = Scope(self.files, outer_scope.opsets, outer_scope, outer_scope.bound, f"{self.where}/")
        for name in scope.store(proto):
            self.problem(f"the initialiser {name!r} of the subgraph {proto.name!r} is given twice")
        self.graph = graph = Graph(proto.name, [], [], symbols=outer_graph.symbols)
        for i in proto.input:
            v = Value(self.unique(scope.prefix + i.name), declared_type(i))
            if scope.owns(i.name):
                self.problem(f"the input {i.name!r} of the subgraph {proto.name!r} is given twice")
            scope.values[i.name] = v
            graph.inputs.append(v)
        self.budget.enter()
        self.nodes(proto.node, scope)
        self.budget.leave()
        self.scope = scope
        graph.outputs = [
            self.result(o, f"output {o.name!r} of the subgraph of {self.where!r}", declared_type)
            for o in proto.output
        ]
        self.graph, self.scope = outer_graph, outer_scope
        return graph


def failure(problems: list[str]) -> CompileError:
    """One exception that lists everything."""
    if len(problems) == 1:
        return CompileError(f"the model cannot be compiled: {problems[0]}", problems)
    listed = "\n".join(f"  - {p}" for p in problems)
    return CompileError(f"the model cannot be compiled, for {len(problems)} reasons:\n{listed}", problems)


def _stripped(values: Sequence[Value | None]) -> list[Value | None]:
    kept = list(values)
    while kept and kept[-1] is None:
        kept.pop()
    return kept


def _plain(attrs: Attrs) -> dict[str, Attr]:
    plain: dict[str, Attr] = {}
    for name, value in attrs.items():
        if isinstance(value, str) or (
            isinstance(value, list) and not any(isinstance(v, Value) for v in value)
        ):
            plain[name] = value  # type: ignore[assignment]
        else:
            raise Problem(
                f"attribute {name!r} is a {type(value).__name__}, which no operator of the core reads"
            )
    return plain


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(n or "ai.onnx") for n in sorted(names)) or "none"
