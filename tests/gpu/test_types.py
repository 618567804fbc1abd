"""The code for the GPU against the real interfaces of TensorRT 10, 11 and RTX and of CUDA's bindings: every name is
there, mypy finds the types right, and both would find mistakes.

TensorRT's Python bindings need nine functions of its libraries to be imported, and none of those to be described.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, lacking

SOURCES = sorted((ROOT / "realtime").rglob("*.py"))
GPU = ROOT / "realtime" / "gpu"
VERSIONS = ("10.16.1.11", "11.4.0.106")
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
RESOLVE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import {module} as trt
missing = []
for name in json.load(sys.stdin):
    found = trt
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            missing.append(name)
            break
print(json.dumps([trt.__version__, missing]))
"""
MYPY = """
[mypy]
strict = True
warn_unused_ignores = False
implicit_optional = True
disallow_untyped_calls = False
ignore_missing_imports = True
implicit_reexport = True
follow_imports = silent
"""


class Bindings:
    """TensorRT's Python bindings of one version over libraries that have its functions' names and nothing in them."""

    def __init__(self, version: str, folder: Path) -> None:
        self.version, self.folder = version, folder
        options = "--quiet --disable-pip-version-check --no-deps --no-compile".split()
        wheel = f"tensorrt-cu13-bindings=={version}"
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "wheel"), wheel]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lacking(f"TensorRT's bindings {version} ({done.stderr.strip()[-300:]})")
        if not (compiler := shutil.which("gcc")):
            lacking("gcc")
        source = folder / "nothing.c"
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
        (folder / "libraries").mkdir()
        for library in LIBRARIES:
            path = folder / "libraries" / f"lib{library}.so.{version.split('.')[0]}"
            subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source], check=True)

    def python(self, *arguments: str, words: str = "") -> str:
        """What Python with these bindings says."""
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.folder / "libraries"),
            "PYTHONPATH": str(self.folder / "wheel"),
        }
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, input=words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def missing(self, names: list[str]) -> list[str]:
        program = RESOLVE.format(module="tensorrt_bindings")
        version, missing = json.loads(self.python("-c", program, words=json.dumps(names)))
        assert version == self.version
        return list(missing)

    def write_stub(self, folder: Path) -> None:
        """The module `tensorrt` as pybind11 describes it, with what is no Python put right."""
        options = ("--ignore-all-errors", "-o", str(folder / "raw"))
        self.python("-W", "ignore", "-m", "pybind11_stubgen", *options, "tensorrt_bindings.tensorrt")
        text = (folder / "raw" / "tensorrt_bindings" / "tensorrt.pyi").read_text()
        text = text.replace("tensorrt_bindings.tensorrt", "tensorrt")
        text = re.sub(r"(->|:) bool\b", r"\1 builtins.bool", text)  # `bool` is a value of DataType there
        text = text.replace("import collections.abc\n", "import builtins\nimport collections.abc\n", 1)
        # What TensorRT calls, it calls with numbers.
        calls = r"def (?:phase_start|step_complete)\(.*"
        text = re.sub(calls, lambda match: match[0].replace("typing.SupportsInt", "int"), text)
        # What pybind11 does not tell: both are so by the protocols of C.
        for name, more in (
            ("IHostMemory", "__buffer__(self, flags: int, /) -> memoryview"),
            ("Dims", "__iter__(self) -> collections.abc.Iterator[int]"),
        ):
            before, head, after = re.split(rf"^(class {name}:\n)", text, maxsplit=1, flags=re.MULTILINE)
            text = f"{before}{head}    def {more}: ...\n{after}"
        (folder / "tensorrt").mkdir()
        (folder / "tensorrt" / "__init__.pyi").write_text(parseable(text) + "\n__version__: str\n")


def parseable(text: str) -> str:
    """The text with every function whose parameters are no Python (one is called `in`) taking anything."""
    lines = text.split("\n")
    for _ in range(20):
        try:
            ast.parse("\n".join(lines))
            return "\n".join(lines)
        except SyntaxError as error:
            index = (error.lineno or 1) - 1
            while not re.match(r"\s*def \w+\(", lines[index]):
                index -= 1
            anything = r"def \1(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:\2"
            lines[index] = re.sub(r"def (\w+)\(.*\).*:(.*)$", anything, lines[index])
    raise AssertionError("a stub that cannot be put right")


@pytest.fixture(scope="module", params=VERSIONS)
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    return Bindings(request.param, tmp_path_factory.mktemp("tensorrt"))


def names_of(source: str, root: str) -> list[str]:
    """Every dotted name under a module `root` that is used: `trt.BuilderFlag.TF32` and `self.trt.Dims` as
    BuilderFlag.TF32 and Dims.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            parts.insert(0, node.id)
        if root in parts[:-1]:
            found.add(".".join(parts[parts.index(root) + 1 :]))
    return sorted(found - {"__name__"})


def test_names_are_found() -> None:
    source = "def f(trt, x):\n  self.trt.Dims(trt.A.B)\n  x.y.trt\n  return trt.__name__, x.trt.C, tart.D"
    assert names_of(source, "trt") == ["A", "A.B", "C", "Dims"]


TRT_NAMES = sorted({name for path in SOURCES for name in names_of(path.read_text(), "trt")})


def test_every_name_is_in_tensorrt(bindings: Bindings) -> None:
    assert {"Builder", "OnnxParser", "Runtime", "TensorIOMode.INPUT", "BuilderFlag.TF32"} <= set(TRT_NAMES)
    assert bindings.missing(TRT_NAMES) == []
    removed = ["BuilderFlag.FP16"] if bindings.version.startswith("11") else []
    planted = ["BuilderFlag.FP16", "Bilder", "Runtime.deserialise"]
    assert bindings.missing([*TRT_NAMES, *planted]) == [*removed, "Bilder", "Runtime.deserialise"]


def test_every_name_is_in_rtx() -> None:
    command = [sys.executable, "-c", RESOLVE.format(module="tensorrt_rtx")]
    done = subprocess.run(command, input=json.dumps([*TRT_NAMES, "Bilder"]), capture_output=True, text=True)
    if "No module named 'tensorrt_rtx'" in done.stderr:
        lacking("tensorrt_rtx (pip install -e .[dev])")
    assert json.loads(done.stdout)[1] == ["Bilder"]


def typed(source: str) -> str:
    """The source as if it imported TensorRT instead of being given it, so that mypy knows its types."""
    source = re.sub(r"\btrt: Any\b", "_trt: Any", source)
    source = re.sub(r"\bself\.trt\b(?=\.)", "trt", source)
    first = "from __future__ import annotations\n"
    assert first in source
    return source.replace(first, f"{first}import tensorrt as trt\n", 1)


# Module of realtime/gpu, what stands there, what is planted instead, what mypy says, and since which version.
PLANTED = [
    ("tensorrt_module", "trt.ILogger.Severity.ERROR", "trt.ILogger.Severity.FAULT", 'has no attribute "FAULT"', 10),
    ("plans", "trt.BuilderFlag.TF32", "trt.BuilderFlag.FP16", 'has no attribute "FP16"', 11),
    ("plans", "trt.OnnxParser(", "trt.OnxParser(", 'has no attribute "OnxParser"', 10),
    ("plans", "builder.build_serialized_network(", "builder.build_engine(", 'has no attribute "build_engine"', 10),
    ("plans", "parser.num_errors", "parser.errors", 'has no attribute "errors"', 10),
    ("plans", "(name, smallest, usual, largest)", '(name, smallest, usual, "largest")', "incompatible type", 10),
    ("plans", "(name, smallest, usual, largest)", "(name, smallest, usual)", "Missing positional argument", 10),
    ("plans", "config.set_timing_cache(timings, False)", "config.set_timing_cache(data, False)", "incompatible", 10),
    ("plan_cache", "trt.Runtime(logger(trt))", "trt.Runtime()", "Missing positional argument", 10),
    ("plan_cache", "runtime.deserialize_cuda_engine(plan)", "runtime.deserialize(plan)", 'attribute "deserialize"', 10),
    ("plan_engine", ".execute_async_v3(", ".execute_async_v2(", 'has no attribute "execute_async_v2"', 10),
    ("plan_engine", "context.set_tensor_address(name,", "context.set_tensor_address(3,", "incompatible type", 10),
    ("plan_engine", ".num_io_tensors", ".num_bindings", 'has no attribute "num_bindings"', 10),
]


def test_every_module_that_uses_tensorrt_has_a_planted_mistake() -> None:
    """A module that is new, or renamed, must be looked at here, too."""
    using = {path for path in SOURCES for root in ("trt", "tensorrt") if names_of(path.read_text(), root)}
    assert using == {GPU / f"{module}.py" for module, *_ in PLANTED}


def test_types_are_right_and_mistakes_are_found(bindings: Bindings, tmp_path: Path) -> None:
    bindings.write_stub(tmp_path / "stubs")
    changed = []
    for path in SOURCES:
        source, name = path.read_text(), str(path.relative_to(ROOT))
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if names_of(source, "trt"):
            changed.append(name)
            source = typed(source)
        (tmp_path / name).write_text(source)
    assert set(changed) == {f"realtime/gpu/{module}.py" for module, *_ in PLANTED}
    planted = {}
    for index, (module, right, wrong, words, since) in enumerate(PLANTED):
        source = (tmp_path / "realtime" / "gpu" / f"{module}.py").read_text()
        assert right in source, right
        name = f"realtime/gpu/planted_{index}.py"
        planted[name] = (words, since)
        (tmp_path / name).write_text(source.replace(right, wrong))
    (tmp_path / "mypy.ini").write_text(MYPY)
    options = "--config-file mypy.ini --cache-dir cache --no-error-summary --hide-error-context".split()
    command = [sys.executable, "-m", "mypy", *options, "--python-executable", sys.executable, *changed, *planted]
    environment = {**os.environ, "MYPYPATH": str(tmp_path / "stubs")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    of = {name: [e for e in errors if e.startswith(f"{name}:")] for name in [*changed, *planted]}
    assert [e for name in changed for e in of[name]] == [], "the sources as they are"
    for name, (words, since) in planted.items():
        if int(bindings.version.split(".")[0]) >= since:
            assert any(words in e for e in of[name]), (name, words, of[name])
        else:
            assert not of[name]


# CUDA's bindings are compiled and not described for mypy, but their functions tell their parameters.


def calls_of(source: str, root: str) -> Iterator[tuple[str, int | None]]:
    """Every function under `root` that is called, by itself or by way of `_call(function, ...)`, and with how many
    arguments: None where that is not to be seen.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        parts = [node.func, *node.args]
        if isinstance(node.func, ast.Attribute) and node.func.attr == "_call":
            parts = parts[1:]
        if (name := dotted(parts[0], root)) and "." not in name:
            countable = not any(isinstance(a, ast.Starred) for a in parts[1:]) and not node.keywords
            yield name, len(parts) - 1 if countable else None


def dotted(node: ast.expr, root: str) -> str | None:
    names = names_of(ast.unparse(node), root)
    whole = ast.unparse(node).rpartition(f"{root}.")[2]
    return whole if whole in names else None


def faults(source: str, root: str) -> list[str]:
    """What in a source does not fit the module cuda.bindings.`root`."""
    module = importlib.import_module(f"cuda.bindings.{root}")
    found = []
    for name in names_of(source, root):
        thing: Any = module
        for part in name.split("."):
            thing = getattr(thing, part, None)
        if thing is None:
            found.append(f"no {name}")
    for name, count in calls_of(source, root):
        function = getattr(module, name, None)
        if function is not None and count is not None:
            try:
                inspect.signature(function).bind(*range(count))
            except TypeError as error:
                found.append(f"{name}: {error}")
    return sorted(found)


# Of each module of cuda.bindings: the one module of realtime/gpu that calls it, and how its functions' names begin.
CALLERS = {"runtime": ("cuda", "cuda"), "driver": ("cuda", "cu"), "nvrtc": ("kernel_compiler", "nvrtc")}


def source_of_caller(root: str) -> str:
    return (GPU / f"{CALLERS[root][0]}.py").read_text()


def test_cuda_is_imported_where_it_is_checked() -> None:
    importing = {path for path in SOURCES if "cuda.bindings" in path.read_text()}
    assert importing == {GPU / f"{module}.py" for module, _ in CALLERS.values()}


@pytest.mark.parametrize("root", CALLERS)
def test_cuda_is_called_where_it_is_checked(root: str) -> None:
    """Whatever holds a module of CUDA must call it `root`, so that the calls are found."""
    module, begin = CALLERS[root]
    callers = [path for path in SOURCES if any(n.startswith(begin) for n, _ in calls_of(path.read_text(), root))]
    assert callers == [GPU / f"{module}.py"]


@pytest.mark.parametrize("root", CALLERS)
def test_cuda_has_what_is_called(root: str) -> None:
    source = source_of_caller(root)
    calls = list(calls_of(source, root))
    assert len(calls) >= 4 and any(count is not None for _, count in calls)
    assert faults(source, root) == []


PLANTED_CALLS = [
    ("runtime", "runtime.cudaMalloc,", "runtime.cudaMaloc,", "no cudaMaloc"),
    ("runtime", "runtime.cudaMemsetAsync, to, 0,", "runtime.cudaMemsetAsync, to,", "cudaMemsetAsync: missing"),
    ("runtime", "runtime.cudaFree, pointer", "runtime.cudaFree, pointer, 0", "cudaFree: too many"),
    ("runtime", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToHome", "no cudaMemcpyKind.cudaMemcpyDeviceToHome"),
    ("driver", "driver.cuModuleUnload, module", "driver.cuModuleUnload", "cuModuleUnload: missing"),
    ("nvrtc", "nvrtcDestroyProgram(program)", "nvrtcDestroyProgram()", "nvrtcDestroyProgram: missing"),
    ("nvrtc", "nvrtc.nvrtcGetCUBIN)", "nvrtc.nvrtcGetCubin)", "no nvrtcGetCubin"),
]


@pytest.mark.parametrize(("root", "right", "wrong", "words"), PLANTED_CALLS)
def test_mistakes_in_calls_of_cuda_are_found(root: str, right: str, wrong: str, words: str) -> None:
    source = source_of_caller(root)
    assert right in source
    assert any(fault.startswith(words) for fault in faults(source.replace(right, wrong), root))


def test_every_module_of_cuda_has_a_planted_mistake() -> None:
    assert {root for root, *_ in PLANTED_CALLS} == set(CALLERS)
