"""What a module's source consists of: its statements, what each binds and what each uses.

A module is cut into units, the statements at its top. Each has digests of its syntax: one without
what no result depends on (comments, positions, docstrings and bare strings, annotations), and one
each for docstrings and annotations, which count where something reads them at run time. What a
unit uses is told by scope, so that a local variable is not taken for a function of its name.
Nothing here recurses: a chain of hundreds of `elif` is as deep as it is long.
"""

from __future__ import annotations

import ast
import builtins
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple, TypeGuard

# One parser of Python syntax at a time: stages run in threads, and Python before 3.11.8 counts the
# depth of trees in one place for all of them, so that two that parse at once may end as "AST
# constructor recursion depth mismatch" (https://github.com/python/cpython/issues/106905). NumPy
# parses, too: the header of a `.npy` file.
PARSING = threading.Lock()

MODULE_LEVEL = "<module>"

# Whether a unit counts although nothing uses what it binds, because it may change something else.
NO_EFFECT, EFFECT, BY_ITS_BASES = 0, 1, 2

# What a unit does that names cannot tell, or that makes more count than its names.
WHOLE_MODULE, EVERYTHING, READS_DOCSTRINGS, READS_ANNOTATIONS, REGISTERS, READS_SOURCE = "meatrs"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STAGES = {"digitflow.stage", "digitflow.tasks.engine.stage.stage"}
# What these say of a stage decides nothing that comes out of it.
_POLICY = {"tags", "retries", "shows_progress"}
_SUBMITS = {"submit", "with_label", "run", "look_up"}

_BUILTINS = frozenset(dir(builtins))
# Called while a module is loaded, these change nothing but what is made of their result.
_PURE_BUILTINS = _words(
    "abs bool bytes bytearray chr classmethod complex dict divmod enumerate filter float format "
    "frozenset hasattr hash hex int isinstance issubclass len list map max min object oct ord pow "
    "property range repr reversed round set slice sorted staticmethod str sum tuple zip"
)
_TYPES = _words("bytes dict float frozenset int list set str tuple")
_PURE_MODULES = _words(
    "abc collections contextlib contextvars dataclasses datetime decimal enum fractions functools "
    "itertools math operator pathlib re string struct textwrap threading types typing "
    "typing_extensions uuid weakref pydantic annotated_types cyclopts pytest"
)
_PURE = frozenset(
    {
        "logging.getLogger", "prefect.flow", "prefect.task", "warnings.deprecated",
        "importlib.metadata.version", "os.environ.get", "os.getenv", "os.path.join",
        "os.path.dirname", "os.path.abspath", "numpy.array", "numpy.dtype", "numpy.arange",
        "numpy.float32", "numpy.float64", "numpy.finfo", "numpy.iinfo",
    }
    | _STAGES
)  # fmt: skip
# Of these, what calls the function that it is given; `sorted` and its like take it as a keyword.
_CALLING = _words(
    "map filter reduce starmap takewhile dropwhile filterfalse accumulate groupby sorted min max"
)
# Decorators that do not look at annotations.
_BLIND = _PURE_MODULES - {"pydantic", "functools", "dataclasses", "cyclopts", "typing", "pytest"}
_BLIND_DECORATORS = frozenset(
    {
        "functools.cache", "functools.lru_cache", "functools.wraps", "functools.cached_property",
        "functools.total_ordering", "typing.overload", "typing.override", "typing.final",
        "typing.no_type_check", "builtins.staticmethod", "builtins.classmethod",
        "builtins.property",
    }
    | _STAGES
)  # fmt: skip

_READ_DOCSTRINGS = {"__doc__", "getdoc", "doctest"}
_READ_ANNOTATIONS = {
    "__annotations__", "__annotate__", "get_type_hints", "get_annotations", "signature",
    "getfullargspec", "validate_call", "validate_arguments", "singledispatch",
    "singledispatchmethod",
}  # fmt: skip
# Of the text itself: comments, or the lines in which things stand.
_READ_SOURCE = _words(
    "getsource getsourcelines getcomments findsource linecache getframeinfo f_lineno tb_lineno "
    "co_firstlineno co_lines co_positions co_linetable extract_stack extract_tb format_exc "
    "print_exc format_tb format_stack format_exception TracebackException"
)
_READ_LINES = {"inspect.stack", "inspect.trace"}
_SEE_A_MODULE = {
    "builtins.globals", "builtins.eval", "builtins.exec", "builtins.compile", "builtins.locals",
}  # fmt: skip
_SEE_EVERYTHING = {"__subclasses__", "sys.modules", "get_objects", "get_referrers", "f_globals"}
_FIND_MODULES = {
    "runpy.run_path", "runpy.run_module", "pkgutil.walk_packages", "pkgutil.iter_modules",
    "importlib.util.spec_from_file_location", "importlib.metadata.entry_points",
    "importlib.util.find_spec", "importlib.machinery.SourceFileLoader",
}  # fmt: skip

# What gives other bytes on another processor: matrix products, which BLAS computes, and the
# functions that NumPy approximates with whatever vectors there are.
_BY_PROCESSOR = _words(
    "matmul dot vdot inner tensordot einsum linalg convolve correlate fft polyfit cov "
    "corrcoef exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan arctan2 sinh "
    "cosh tanh arcsinh arccosh arctanh power float_power cbrt hypot logaddexp logaddexp2"
)


class Unit(NamedTuple):
    """A statement at the top of a module.

    Attributes
    ----------
    label
        What it is called where a change is reported.
    parts
        Label → digest of the syntax that counts: one, or for a class one for each method, too.
    binds
        Names that it binds in the module, or that a function in it declares `global`.
    uses
        Names of the module that it uses, with the attributes asked of them: ``np.linalg.norm``.
    imports
        What functions in it import, and use of that: ``package.module:attribute.chain``.
    bases
        Names of base classes, where it is a class.
    effect
        `NO_EFFECT`, `EFFECT` or `BY_ITS_BASES`.
    flags
        Letters of `WHOLE_MODULE` and its like.
    docstrings, annotations
        Digests of what is no part of `parts`; empty where there is none.
    annotated
        Whether its annotations count in any case.
    annotation_uses
        Names that are used in annotations only.
    unfollowed
        What it does to find code that no reading of it can tell.
    by_processor
        Whether it calls what gives other bytes on another processor.
    value
        `digest_value` of the value, where it is written out; ``def`` of a function without
        decorators.
    operands
        Names that it uses when it is loaded, where it applies something: an operator, an index.
    """

    label: str
    parts: Mapping[str, str]
    binds: tuple[str, ...]
    uses: tuple[str, ...]
    imports: tuple[str, ...]
    bases: tuple[str, ...]
    effect: int
    flags: str
    docstrings: str
    annotations: str
    annotated: bool
    annotation_uses: tuple[str, ...]
    unfollowed: tuple[str, ...]
    by_processor: bool
    value: str
    operands: tuple[str, ...]


class Binding(NamedTuple):
    """A name that an import at the top of a module binds."""

    name: str
    module: str
    attribute: str  # empty: the module itself
    place: int  # before which unit it stands


class Summary(NamedTuple):
    """A module.

    Attributes
    ----------
    units
        Its statements, in order, without imports.
    bindings
        What its imports bind, in order; the name ``*`` stands for all of a module.
    reaches
        Modules that are loaded with it, in order: each with what is taken of it, which may be a
        module, too, and before which unit.
    functions
        ``qualified.name:line`` → digest of each function's own definition.
    """

    units: tuple[Unit, ...]
    bindings: tuple[Binding, ...]
    reaches: tuple[tuple[str, str, int], ...]
    functions: Mapping[str, str]


def read(source: bytes | str, name: str, is_package: bool) -> Summary:
    """Summarise a module.

    Parameters
    ----------
    source
        Its text, as bytes with the encoding that they declare.
    name
        Its dotted name, from which relative imports start.
    is_package
        Whether it is the ``__init__`` of a package.

    Raises
    ------
    SyntaxError
        If it cannot be parsed.
    """
    with PARSING:
        tree = ast.parse(source)
    return _Reader(tree, name if is_package else name.rpartition(".")[0]).summary()


_Scope = tuple[frozenset[str], frozenset[str]]  # names that are local; those of functions around


class _Reader:
    def __init__(self, tree: ast.Module, package: str) -> None:
        self.package = package
        self._body = list(_live(tree.body))
        self._postponed = any(
            isinstance(each, ast.ImportFrom)
            and each.module == "__future__"
            and any(one.name == "annotations" for one in each.names)
            for each in self._body
        )
        self._bindings: list[Binding] = []
        self._reaches: list[tuple[str, str, int]] = []
        place = 0
        self._statements: list[ast.stmt] = []
        for node in self._body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._bind(node, place)
                continue
            in_classes = _imports_of_classes(node)
            for each in _evaluated(node):
                if isinstance(each, ast.Import | ast.ImportFrom):
                    self._bind(each, place, is_global=id(each) not in in_classes)
            self._statements.append(node)
            place += 1
        self._imported = {each.name: _dotted(each.module, each.attribute) for each in
                          self._bindings}  # fmt: skip
        self._own = {name for node in self._statements for name in bound_by([node])}
        self._stages = {
            node.name
            for node in self._statements
            if isinstance(node, ast.FunctionDef)
            and any(self._callee(each) in _STAGES for each in node.decorator_list)
        }

    def summary(self) -> Summary:
        functions: dict[str, str] = {}
        for node in self._statements:
            for qualified, each in _functions(node):
                line = min([each.lineno, *(one.lineno for one in each.decorator_list)])
                functions[f"{qualified}:{line}"] = self._digests(each)[0]
        units = tuple(unit for node in self._statements for unit in self._unit(node))
        return Summary(units, tuple(self._bindings), tuple(self._reaches), functions)

    def _bind(
        self, node: ast.Import | ast.ImportFrom, place: int, *, is_global: bool = True
    ) -> None:
        for name, loaded, module, attribute in _imports(node, self.package):
            if loaded != "__future__":
                self._reaches.append((loaded, "" if attribute == "*" else attribute, place))
                if is_global:
                    self._bindings.append(Binding(name, module, attribute, place))

    def _unit(self, node: ast.stmt) -> Iterator[Unit]:
        if _is_main_block(node):
            # It runs where the module is the script and not where it is imported, and calls what
            # the module defines. What it binds or sets counts.
            for each in _live(node.body):
                if not isinstance(each, ast.Expr | ast.FunctionDef | ast.Import | ast.ImportFrom):
                    yield from self._unit(each)
            return
        look = _Look(self, node)
        code, docstrings, annotations = self._digests(node)
        parts = {_label(node): code}
        if isinstance(node, ast.ClassDef):
            parts = self._class_parts(node)
        effect, registers = self._effect(node)
        flags = "".join(sorted({*look.flags, *(REGISTERS if registers else "")}))
        yield Unit(
            _label(node),
            parts,
            tuple(sorted(bound_by([node]) | look.declared_global)),
            tuple(sorted(look.uses)),
            tuple(sorted(look.imports)),
            tuple(filter(None, map(_chain, node.bases))) if isinstance(node, ast.ClassDef) else (),
            effect,
            flags,
            docstrings,
            annotations,
            self._looks_at_annotations(node),
            tuple(sorted(look.annotation_uses - look.uses)),
            tuple(sorted(look.unfollowed)),
            look.by_processor,
            _written_out(node),
            tuple(sorted(set(_operands(node)))),
        )

    def _class_parts(self, node: ast.ClassDef) -> dict[str, str]:
        methods: dict[str, list[str]] = {}
        for each in _live(node.body):
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                methods.setdefault(f"{node.name}.{each.name}", []).append(self._digests(each)[0])
        parts = {
            label: each[0] if len(each) == 1 else _digest(each) for label, each in methods.items()
        }
        return {**parts, node.name: self._digests(node, without_methods=True)[0]}

    def _digests(self, node: ast.AST, *, without_methods: bool = False) -> tuple[str, str, str]:
        """Return the digests of a node's code, of its docstrings and of its annotations."""
        code: list[str] = []
        docstrings: list[str] = []
        annotations: list[ast.expr | str] = []
        self._write(node, code, docstrings, annotations, without_methods)
        written = ["as text"] if annotations and self._postponed else []
        for each in annotations:
            if isinstance(each, str):
                written.append(each)
            else:
                self._write(each, written, [], [], False)
        return _digest(code), _digest(docstrings), _digest(written)

    def _write(
        self,
        top: ast.AST,
        code: list[str],
        docstrings: list[str],
        annotations: list[ast.expr | str],
        without_methods: bool,
    ) -> None:
        stack: list[Any] = [top]
        while stack:
            item = stack.pop()
            if isinstance(item, str):
                code.append(item)
                continue
            if isinstance(item, list):
                stack.append("]")
                stack.extend(reversed(item))
                stack.append("[")
                continue
            if not isinstance(item, ast.AST):
                code.append(_value(item))
                continue
            node: ast.AST = item
            if isinstance(node, ast.Constant):
                code.append(_value(node.value))
                continue
            if isinstance(node, ast.AnnAssign):
                annotations += [f"{_chain(node.target)}:", node.annotation]
                if node.value is None:
                    continue
                node = ast.Assign([node.target], node.value)
            code.append(type(node).__name__)
            children: list[Any] = ["("]
            for field, value in ast.iter_fields(node):
                if value is None or value == [] or field in _POSITIONS:
                    continue
                if field in ("annotation", "returns"):
                    annotations += [f"{getattr(node, 'arg', '')}:", value]
                    continue
                if field in ("body", "orelse", "finalbody") and isinstance(value, list):
                    docstrings += [_value(each.value.value) for each in value if _is_bare(each)]
                    value = list(_live(value))
                    if isinstance(node, ast.ClassDef) and node is top and without_methods:
                        value = [
                            each.name
                            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                            else each
                            for each in value
                        ]
                if field == "decorator_list":
                    value = [self._without_policy(each) for each in value]
                children += [f" {field}=", value]
            children.append(")")
            stack.extend(reversed(children))

    def _without_policy(self, decorator: ast.expr) -> ast.expr:
        if isinstance(decorator, ast.Call) and self._callee(decorator) in _STAGES:
            kept = [each for each in decorator.keywords if each.arg not in _POLICY]
            return ast.Call(decorator.func, decorator.args, kept)
        return decorator

    def name_of(self, chain: str) -> str:
        """Return what a name at the top of the module stands for, as far as imports tell."""
        head, _, rest = chain.partition(".")
        if head in self._imported:
            return _dotted(self._imported[head], rest)
        if head in _BUILTINS and head not in self._own:
            return f"builtins.{chain}"
        return chain

    def _callee(self, node: ast.expr) -> str:
        return self.name_of(_chain(node.func if isinstance(node, ast.Call) else node))

    def _is_pure(self, callee: str) -> bool:
        head, _, last = callee.partition(".")
        return (
            callee in _PURE
            or head in _PURE_MODULES
            or (head == "builtins" and last in _PURE_BUILTINS)
        )

    def _effect(self, node: ast.stmt) -> tuple[int, bool]:
        """Tell whether a statement may change more than what it binds; whether subclasses do."""
        registers = isinstance(node, ast.ClassDef) and (
            bool(node.keywords)
            or any(
                isinstance(each, ast.FunctionDef) and each.name == "__init_subclass__"
                for each in node.body
            )
        )
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if self._callee(node.value) == "builtins.print" or self._is_call_of_a_stage(node.value):
                return NO_EFFECT, registers
            return EFFECT, registers
        by_bases = False
        for each in _evaluated(node):
            match each:
                case ast.Call() if not self._may_be_called(each):
                    return EFFECT, registers
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if not all(
                    self._may_decorate(one) for one in each.decorator_list
                ):
                    return EFFECT, registers
                case ast.ClassDef() if each.bases or each.keywords:
                    if any(not self._is_known_base(one) for one in each.bases):
                        by_bases = True
                    if any(
                        keyword.arg != "metaclass" or self._callee(keyword.value) != "abc.ABCMeta"
                        for keyword in each.keywords
                        if keyword.arg not in ("frozen", "total", "extra")
                    ):
                        return EFFECT, registers
                case ast.Assign() if not all(map(_binds_names_only, each.targets)):
                    return EFFECT, registers
                case ast.AnnAssign() if not _binds_names_only(each.target):
                    return EFFECT, registers
                case (
                    ast.AugAssign() | ast.Delete() | ast.For() | ast.While() | ast.With()
                    | ast.Raise() | ast.Assert() | ast.AsyncFor() | ast.AsyncWith() | ast.Await()
                    | ast.Yield() | ast.YieldFrom()
                ):  # fmt: skip
                    return EFFECT, registers
                case ast.Expr() if not _is_bare(each):  # for nothing else it would stand there
                    return EFFECT, registers
        return BY_ITS_BASES if by_bases else NO_EFFECT, registers

    def _may_be_called(self, node: ast.Call) -> bool:
        chain = _chain(node.func)
        if not chain:
            # A method of what was just made: nobody else has it.
            return isinstance(node.func, ast.Attribute)
        if self._is_call_of_a_stage(node):
            return True
        return self._is_pure(self.name_of(chain)) and all(map(self._may_be_given, _called_by(node)))

    def _may_be_given(self, function: ast.expr) -> bool:
        """Tell whether a function that something calls at once changes nothing."""
        if isinstance(function, ast.Lambda):
            own = {each.arg for each in function.args.args}
            return all(
                _chain(each.func).partition(".")[0] in own or self._may_be_called(each)
                for each in ast.walk(function.body)
                if isinstance(each, ast.Call)
            )
        name = self.name_of(_chain(function))
        return self._is_pure(name) or name.rpartition(".")[0].removeprefix("builtins.") in _TYPES

    def _is_call_of_a_stage(self, node: ast.expr) -> bool:
        """Tell whether it is ``stage.submit(…)``, and what one does with that."""
        while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in self._stages
            ):
                return node.attr in _SUBMITS
            node = node.func if isinstance(node, ast.Call) else node.value
        return False

    def _may_decorate(self, node: ast.expr) -> bool:
        chain = _chain(node.func if isinstance(node, ast.Call) else node)
        if self.name_of(chain) in ("functools.partial", "functools.reduce"):
            return False  # it is called with the definition, and calls what it was given
        return chain.rpartition(".")[2] in ("setter", "getter", "deleter") or self._is_pure(
            self.name_of(chain)
        )

    def _is_known_base(self, node: ast.expr) -> bool:
        chain = _chain(node.value if isinstance(node, ast.Subscript) else node)
        top = self.name_of(chain).partition(".")[0]
        return bool(chain) and (
            top in ("builtins", "pydantic", "typing_extensions") or top in sys.stdlib_module_names
        )

    def _looks_at_annotations(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.ClassDef) and (node.bases or node.keywords or node.decorator_list):
            return True
        return any(
            self._callee(each) not in _BLIND_DECORATORS
            and self._callee(each).partition(".")[0] not in _BLIND
            and not _chain(each).endswith((".setter", ".getter", ".deleter"))
            for inner in ast.walk(node)
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            for each in inner.decorator_list
        )


class _Look:
    """What a statement uses of the module around it, told by scope."""

    def __init__(self, reader: _Reader, top: ast.stmt) -> None:
        self.uses: set[str] = set()
        self.annotation_uses: set[str] = set()
        self.imports: set[str] = set()
        self.flags: set[str] = set()
        self.unfollowed: set[str] = set()
        self.declared_global: set[str] = set()
        self.by_processor = False
        self._reader = reader
        self._aliases = self._inner_imports(top)
        nothing: frozenset[str] = frozenset()
        self._stack: list[tuple[ast.AST, frozenset[str], frozenset[str], bool]] = []
        self._push([top], nothing, nothing, False)
        while self._stack:
            self._visit(*self._stack.pop())

    def _inner_imports(self, top: ast.stmt) -> dict[str, set[str]]:
        """Note what is imported by functions in the statement; return what names stand for it."""
        aliases: dict[str, set[str]] = {}
        in_classes = _imports_of_classes(top)
        at_the_top = set(map(id, _evaluated(top))) - in_classes
        hidden = _type_checking_blocks(top)
        for node in ast.walk(top):
            if not isinstance(node, ast.Import | ast.ImportFrom) or id(node) in at_the_top | hidden:
                continue
            for name, loaded, module, attribute in _imports(node, self._reader.package):
                self.imports.add(f"{loaded}?{attribute}")
                if attribute == "*":
                    self.flags.add(WHOLE_MODULE)
                    self.imports.add(f"{module}:")
                else:
                    aliases.setdefault(name, set()).add(f"{module}:{attribute}")
                if id(node) in in_classes:  # an attribute of the class, whoever asks for it
                    self.imports.add(f"{module}:{attribute}")
        return aliases

    def _push(
        self,
        nodes: Iterable[ast.AST | None],
        local: frozenset[str],
        around: frozenset[str],
        annotation: bool,
    ) -> None:
        self._stack.extend((node, local, around, annotation) for node in nodes if node is not None)

    def _visit(
        self, node: ast.AST, local: frozenset[str], around: frozenset[str], annotation: bool
    ) -> None:
        body: list[ast.stmt]
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                arguments = node.args
                every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs,
                         *filter(None, [arguments.vararg, arguments.kwarg])]  # fmt: skip
                self._push([*arguments.defaults, *arguments.kw_defaults], local, around, annotation)
                if isinstance(node, ast.Lambda):
                    body = [ast.Expr(node.body)]
                else:
                    body = list(_live(node.body))
                    self._push(node.decorator_list, local, around, annotation)
                    hints = [node.returns, *(each.annotation for each in every)]
                    self._push(hints, local, around, True)
                names, declared = _bound_here(body)
                self.declared_global |= declared
                inner = (around | names | {each.arg for each in every}) - declared
                self._push(body, inner, inner, annotation)
            case ast.ClassDef():
                self._push([*node.decorator_list, *node.bases], local, around, annotation)
                self._push([each.value for each in node.keywords], local, around, annotation)
                body = list(_live(node.body))
                self.declared_global |= _bound_here(body)[1]
                self._push(body, around, around, annotation)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                targets = {
                    each.id
                    for generator in node.generators
                    for each in ast.walk(generator.target)
                    if isinstance(each, ast.Name)
                }
                # The first iterable is evaluated outside; a name that is used there and is also a
                # target inside is taken for both.
                first = node.generators[0].iter
                self._push([first], local, around, annotation)
                inner = local | targets
                rest = [each for each in ast.iter_child_nodes(node)]
                for generator in node.generators:
                    rest.remove(generator)
                    parts = [generator.iter, *generator.ifs]
                    self._push([p for p in parts if p is not first], inner, around | targets,
                               annotation)  # fmt: skip
                self._push(rest, inner, around | targets, annotation)
            case ast.AnnAssign():
                self._push([node.annotation], local, around, True)
                self._push([node.target, node.value], local, around, annotation)
            case ast.Attribute():
                self._attribute(node, local, around, annotation)
            case ast.Name():
                self._use(node.id, node.id, local, annotation)
            case ast.Import() | ast.ImportFrom():
                pass
            case ast.Constant(value=str(text)) if text.startswith("__"):  # for `getattr`
                self._flag(text)
            case _:
                if isinstance(node, ast.Call):
                    self._call(node, local)
                if isinstance(node, ast.MatMult):
                    self.by_processor = True
                children: list[ast.AST] = []
                for _, value in ast.iter_fields(node):
                    if isinstance(value, ast.AST):
                        children.append(value)
                    elif isinstance(value, list):
                        statements = value and isinstance(value[0], ast.stmt)
                        children += _live(value) if statements else filter(_is_node, value)
                self._push(children, local, around, annotation)

    def _attribute(
        self, node: ast.Attribute, local: frozenset[str], around: frozenset[str], annotation: bool
    ) -> None:
        name = node.attr
        if name in _BY_PROCESSOR:
            self.by_processor = True
        self._flag(name)
        chain = _chain(node)
        if not chain:
            self._push([node.value], local, around, annotation)
            return
        for each in chain.split(".")[1:-1]:
            self._flag(each)
            self.by_processor |= each in _BY_PROCESSOR
        self._use(chain.partition(".")[0], chain, local, annotation)

    def _use(self, head: str, chain: str, local: frozenset[str], annotation: bool) -> None:
        rest = chain.partition(".")[2]
        for target in self._aliases.get(head, ()):
            module, _, attribute = target.partition(":")
            self.imports.add(f"{module}:{_dotted(attribute, rest)}")
            self._full(_dotted(_dotted(module, attribute), rest))
        if head in local:
            return
        (self.annotation_uses if annotation else self.uses).add(chain)
        if not annotation:
            self._flag(head)
            self._full(self._reader.name_of(chain))

    def _full(self, name: str) -> None:
        if name in _SEE_A_MODULE:
            self.flags.add(WHOLE_MODULE)
        if name in _FIND_MODULES:
            self.unfollowed.add(f"{name}(…)")
            self.flags.add(WHOLE_MODULE)
        if name == "sys.modules" or name.startswith("sys.modules."):
            self.flags.add(EVERYTHING)
        if name in _READ_LINES:
            self.flags.add(READS_SOURCE)
        last = name.rpartition(".")[2]
        if last in _BY_PROCESSOR and name.partition(".")[0] not in ("builtins", "math"):
            self.by_processor = True
        self._flag_readers(last)

    def _flag(self, name: str) -> None:
        if name == "__globals__":
            self.flags.add(WHOLE_MODULE)
        if name in _SEE_EVERYTHING:
            self.flags.add(EVERYTHING)
        self._flag_readers(name)

    def _flag_readers(self, name: str) -> None:
        if name in _READ_DOCSTRINGS:
            self.flags.add(READS_DOCSTRINGS)
        if name in _READ_ANNOTATIONS:
            self.flags.add(READS_ANNOTATIONS)
        if name in _READ_SOURCE:
            self.flags.add(READS_SOURCE)

    def _call(self, node: ast.Call, local: frozenset[str]) -> None:
        chain = _chain(node.func)
        names = {self._reader.name_of(chain)}
        head, _, rest = chain.partition(".")
        for target in self._aliases.get(head, ()):
            module, _, attribute = target.partition(":")
            names.add(_dotted(_dotted(module, attribute), rest))
        if chain == "vars" and not node.args:
            self.flags.add(WHOLE_MODULE)
        if not names & {"importlib.import_module", "builtins.__import__", "importlib.__import__"}:
            return
        wanted = node.args[0] if node.args else None
        if not isinstance(wanted, ast.Constant) or not isinstance(wanted.value, str):
            self.unfollowed.add(f"{chain}({'…' if wanted is None else ast.unparse(wanted):.60})")
            return
        name = wanted.value
        if name.startswith("."):
            level = len(name) - len(name.lstrip("."))
            parents = self._reader.package.split(".")
            name = ".".join([*parents[: len(parents) - level + 1], name[level:]]).strip(".")
        self.imports.add(f"{name}:")


_POSITIONS = {"lineno", "col_offset", "end_lineno", "end_col_offset", "type_comment", "ctx"}


def _is_node(value: Any) -> bool:
    return isinstance(value, ast.AST)


def _digest(pieces: list[str]) -> str:
    return sha256("\0".join(pieces).encode("utf-8", "surrogatepass")).hexdigest() if pieces else ""


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"int {value:x}"  # decimal digits are limited, and slow
    if isinstance(value, str):
        return f"{len(value)} {value}"
    return f"{type(value).__name__} {value!r}"


def _dotted(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _chain(node: ast.expr) -> str:
    """Return ``a.b.c``, or nothing if it is something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def _is_bare(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_type_checking(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and _chain(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
        "t.TYPE_CHECKING",
    )


def _is_main_block(node: ast.stmt) -> TypeGuard[ast.If]:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and _chain(node.test.left) == "__name__"
        and isinstance(node.test.comparators[0], ast.Constant)
        and node.test.comparators[0].value == "__main__"
        and not node.orelse
    )


def _live(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that do something."""
    for node in body:
        if _is_bare(node) or isinstance(node, ast.Pass):
            continue
        if _is_type_checking(node):
            yield from _live(node.orelse)
            continue
        yield node


def _type_checking_blocks(top: ast.AST) -> set[int]:
    return {
        id(inner)
        for block in ast.walk(top)
        if _is_type_checking(block)
        for each in block.body
        for inner in ast.walk(each)
    }


def _evaluated(top: ast.AST) -> Iterator[ast.AST]:
    """Yield what is evaluated when a statement runs: not the bodies of functions in it."""
    stack: list[ast.AST] = [top]
    while stack:
        node = stack.pop()
        yield node
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                stack += [*node.decorator_list, *_defaults(node.args)]
            case ast.Lambda():
                stack += _defaults(node.args)
            case ast.AnnAssign():
                stack += [each for each in (node.target, node.value) if each is not None]
            case ast.If() if _is_type_checking(node):
                stack += node.orelse
            case _:
                stack += ast.iter_child_nodes(node)


def _imports_of_classes(top: ast.AST) -> set[int]:
    """Return the imports in bodies of classes, which bind nothing in the module."""
    return {
        id(each)
        for inner in ast.walk(top)
        if isinstance(inner, ast.ClassDef)
        for each in _evaluated(inner)
        if isinstance(each, ast.Import | ast.ImportFrom)
    }


def _operands(top: ast.stmt) -> Iterator[str]:
    evaluated = list(_evaluated(top))
    if any(isinstance(each, _APPLY) for each in evaluated):
        for each in evaluated:
            if isinstance(each, ast.Name | ast.Attribute) and isinstance(each.ctx, ast.Load):
                yield from filter(None, [_chain(each)])


_APPLY = (
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Subscript, ast.Attribute, ast.Call,
    ast.FormattedValue, ast.Starred, ast.comprehension, ast.IfExp,
)  # fmt: skip


def _called_by(node: ast.Call) -> list[ast.expr]:
    """Return the functions that a call hands to something that calls them at once."""
    name = _chain(node.func).rpartition(".")[2]
    if name not in _CALLING:
        return []
    place = {"accumulate": 1, "groupby": 1, "sorted": None, "min": None, "max": None}.get(name, 0)
    given = [] if place is None else node.args[place : place + 1]
    return [*given, *(each.value for each in node.keywords if each.arg in ("key", "func"))]


def _defaults(arguments: ast.arguments) -> list[ast.expr]:
    return [*arguments.defaults, *(each for each in arguments.kw_defaults if each is not None)]


def _functions(
    top: ast.stmt,
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function in a statement with its qualified name."""
    stack: list[tuple[ast.AST, str]] = [(top, "")]
    while stack:
        node, around = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield around + node.name, node
            around = f"{around}{node.name}.<locals>."
        elif isinstance(node, ast.ClassDef):
            around = f"{around}{node.name}."
        stack += [(each, around) for each in ast.iter_child_nodes(node)]


def _binds_names_only(target: ast.expr) -> bool:
    return not any(isinstance(each, ast.Attribute | ast.Subscript) for each in ast.walk(target))


def bound_by(body: Iterable[ast.stmt]) -> frozenset[str]:
    """Return the names that statements bind in their own scope."""
    return _bound_here(body)[0]


def _bound_here(body: Iterable[ast.stmt]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that statements bind in their own scope, and those declared global."""
    names: set[str] = set()
    declared: set[str] = set()
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
                stack += [*node.decorator_list, *_defaults(node.args)]
                continue
            case ast.ClassDef():
                names.add(node.name)
                stack += node.decorator_list
                continue
            case ast.Lambda():
                stack += _defaults(node.args)
                continue
            case ast.comprehension():  # its targets are its own, but not what a walrus in it binds
                stack += [node.iter, *node.ifs]
                continue
            case ast.Name() if isinstance(node.ctx, ast.Store | ast.Del):
                names.add(node.id)
            case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
                names.add(node.name)
            case ast.MatchMapping() if node.rest:
                names.add(node.rest)
            case ast.Import() | ast.ImportFrom():
                names |= {(each.asname or each.name.partition(".")[0]) for each in node.names} - {
                    "*"
                }
            case ast.Global():
                declared |= set(node.names)
            case ast.Nonlocal():
                continue
        stack += ast.iter_child_nodes(node)
    return frozenset(names - declared), frozenset(declared)


def _imports(
    node: ast.Import | ast.ImportFrom, package: str
) -> Iterator[tuple[str, str, str, str]]:
    """Yield the name that is bound, the module that is loaded, and to what of which it is bound."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield alias.asname or top, alias.name, alias.name if alias.asname else top, ""
        return
    base = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    if not base:
        return  # a relative import outside of any package
    for alias in node.names:
        yield alias.asname or alias.name, base, base, alias.name


def digest_value(value: Any) -> str:
    """Return a digest of a value that can be written out; nothing of any other."""
    pieces: list[str] = []
    stack = [value]
    while stack:
        each = stack.pop()
        kind = type(each)
        if kind in (list, tuple):
            pieces.append(f"{kind.__name__} {len(each)}")
            stack += each
        elif kind is dict:
            pieces.append(f"dict {len(each)}")
            stack += [part for item in each.items() for part in item]
        elif kind in (set, frozenset):
            inner = sorted(map(digest_value, each))
            if "" in inner:
                return ""
            pieces += [f"{kind.__name__} {len(each)}", *inner]
        elif each is None or kind in (bool, int, float, complex, str, bytes):
            pieces.append(_value(each))
        else:
            return ""
        if len(pieces) > _MOST_PIECES:
            return ""
    return _digest(pieces)


_MOST_PIECES = 10_000
IS_FUNCTION = "def"


def _written_out(node: ast.stmt) -> str:
    match node:
        case ast.FunctionDef(decorator_list=[]):
            return IS_FUNCTION
        case ast.Assign(targets=[ast.Name()], value=value):
            pass
        case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
            pass
        case _:
            return ""
    try:
        return digest_value(ast.literal_eval(value))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ""


def _label(node: ast.stmt) -> str:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return node.name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return MODULE_LEVEL
