"""The rules of the house (CONTRIBUTING.md): layers, the chain of names, what lies where.

Each rule is a function that returns the offences it finds as readable lines. The project must have none,
and a small bad sample shows for each rule that it finds what it is there for.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "apmgsrn_core"
PLUGIN = ROOT / "plugin"
XML_FILES = sorted((ROOT / "xml").glob("*.xml"))

TOP_LEVEL = {
    "plugin", "apmgsrn_core", "xml", "examples", "tests", "CMakeLists.txt", "README.md", "pyproject.toml",
    "LICENSE", "CONTRIBUTING.md", ".gitignore", ".gitattributes", ".ci",
}  # fmt: skip


def sources(folder: Path) -> dict[str, str]:
    """{path relative to the root: text} of the Python files below a folder."""
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(folder.rglob("*.py"))}


# ---- layers: who imports what ---------------------------------------------------------------------


def imported_modules(text: str) -> list[tuple[int, str]]:
    """(line, dotted module) of every import, also inside functions and by importlib."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called in ("__import__", "import_module", "importlib.import_module"):
                found.append((node.lineno, str(node.args[0].value)))
    return found


def forbidden_imports(files: dict[str, str], forbidden: tuple[str, ...], allowed_in: str = "") -> list[str]:
    return [
        f"{path}:{line} imports {module}"
        for path, text in files.items()
        if not (allowed_in and path.startswith(allowed_in))
        for line, module in imported_modules(text)
        if any(module == name or module.startswith(name + ".") for name in forbidden)
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "import vtk",
        "import vtkmodules.util as u",
        "from vtkmodules.vtkCommonCore import vtkObject",
        "def f():\n    from paraview import simple",
        "import importlib\nimportlib.import_module('vtk')",
        "__import__('paraview.simple')",
    ],
)
def test_the_import_rule_finds_offences(statement):
    assert forbidden_imports({"a.py": statement}, ("vtk", "vtkmodules", "paraview"))


def test_the_import_rule_leaves_other_names_alone():
    text = "from . import paraview\nimport vtk_bridge\nfrom .vtk import x\nfrom paraview import print_error"
    assert not forbidden_imports({"a.py": text}, ("vtk", "vtkmodules", "paraview.simple"))


def test_core_knows_no_vtk_and_no_paraview():
    assert forbidden_imports(sources(CORE), ("vtk", "vtkmodules", "paraview", "apmgsrn_paraview")) == []


def test_plugin_knows_no_torch_no_mpi_and_no_client():
    assert forbidden_imports(sources(PLUGIN), ("torch", "mpi4py")) == []
    client = ("paraview.simple", "paraview.servermanager")
    assert forbidden_imports(sources(PLUGIN), client, allowed_in="plugin/apmgsrn/") == []


def test_mpi_is_imported_in_one_file():
    assert forbidden_imports(sources(CORE), ("mpi4py",), allowed_in="apmgsrn_core/distributed.py") == []


# ---- nothing is executed on opening a file ----------------------------------------------------------


TRUSTED = "apmgsrn_core/foreign/network_loading.py"  # opens foreign networks, after `check_trust`
LOADERS = ("torch.jit.load", "torch.export.load")


def executed_data(files: dict[str, str]) -> list[str]:
    found = forbidden_imports(files, ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"))
    for path, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in LOADERS and path == TRUSTED:
                    continue
                if called in ("eval", "exec", "torch.load", "torch.hub.load", *LOADERS):
                    found.append(f"{path}:{node.lineno} calls {called}")
                found += [
                    f"{path}:{node.lineno} allows pickles"
                    for keyword in node.keywords
                    if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", True)
                ]
            elif isinstance(node, ast.ImportFrom) and node.module == "torch":
                found += [f"{path}:{node.lineno} imports torch.load" for a in node.names if a.name == "load"]
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "import pickle", "eval('1')", "torch.load(f)", "torch.export.load(f)", "from torch import load",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_the_execution_rule_finds_offences(statement):
    assert executed_data({"a.py": statement})


def test_nothing_executes_data():
    assert not executed_data({"a.py": "model.eval()\nnp.load(f, allow_pickle=False)"})
    assert executed_data({**sources(CORE), **sources(PLUGIN)}) == []


# ---- the chain of names: XML -> setter -> config field -----------------------------------------------


def proxies(root: ElementTree.Element) -> list[ElementTree.Element]:
    """The proxies that name a Python class."""
    return [e for e in root.iter() if e.get("si_class", "").startswith("vtkSIPython") and e.get("class")]


def missing_commands(root: ElementTree.Element, find_class) -> list[str]:
    """ParaView aborts (the whole program) when a proxy names a method that its class has not."""
    found = []
    for proxy in proxies(root):
        owner = find_class(proxy.get("class"))
        for element in proxy.iter():
            for attribute in ("command", "clean_command", "set_number_command", "reset_command"):
                method = element.get(attribute)
                if method and not callable(getattr(owner, method, None)):
                    found.append(f"{proxy.get('name')}: {owner.__name__} has no method {method} ({element.get('name')})")
    return found


def import_class(dotted: str) -> type:
    module, name = dotted.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def snake_case(name: str) -> str:
    """StopPSNR -> stop_psnr, NumberOfGrids -> number_of_grids."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def xml_default(element: ElementTree.Element):
    """The default as Python sees it: text of the entry for an enumeration, a tuple for several numbers."""
    text = element.get("default_values", "")
    for entry in element.findall("EnumerationDomain/Entry"):
        if entry.get("value") == text:
            return entry.get("text").lower()
    if element.tag == "StringVectorProperty":
        return text
    number = int if element.tag in ("IntVectorProperty", "IdTypeVectorProperty") else float
    values = tuple(number(word) for word in text.split())
    return values[0] if len(values) == 1 else values


def properties_of_config(root: ElementTree.Element, configs: tuple[type, ...]):
    """(proxy name, XML element, dataclass field) for the properties that are a field of a configuration.

    Readers share names such as Device with nothing in the configurations; a property that only informs has no default.
    """
    fields = {field.name: field for config in configs for field in dataclasses.fields(config)}
    for proxy in proxies(root):
        for element in proxy.iter():
            field = fields.get(snake_case(element.get("name", "")))
            if field is not None and element.tag.endswith("VectorProperty") and element.get("information_only") != "1":
                yield proxy.get("name"), element, field


def different_defaults(root: ElementTree.Element, configs: tuple[type, ...]) -> list[str]:
    found = []
    for proxy, element, field in properties_of_config(root, configs):
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
        if isinstance(default, list):
            default = tuple(default)
        in_xml = xml_default(element)
        if in_xml != default:
            found.append(f"{proxy}.{element.get('name')}: {in_xml!r} in the XML, {default!r} in the configuration")
    return found


class Sample:
    """A class behind a proxy."""

    def SetIterations(self, value):
        pass


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    iterations: int = 3
    stop_psnr: float = 0.0
    placement: str = "kdtree"
    grid_resolution: tuple[int, int, int] = (8, 8, 8)


def sample_xml(iterations="3", command="SetIterations", psnr="0", placement="1", resolution="8 8 8"):
    return ElementTree.fromstring(
        f"""
        <SourceProxy name="S" class="m.Sample" si_class="vtkSIPythonSourceProxy">
          <IntVectorProperty name="Iterations" command="{command}" default_values="{iterations}"/>
          <DoubleVectorProperty name="StopPSNR" command="SetIterations" default_values="{psnr}"/>
          <IntVectorProperty name="Placement" command="SetIterations" default_values="{placement}">
            <EnumerationDomain name="e"><Entry text="Random" value="0"/><Entry text="KDTree" value="1"/></EnumerationDomain>
          </IntVectorProperty>
          <IntVectorProperty name="GridResolution" command="SetIterations" default_values="{resolution}"/>
        </SourceProxy>"""
    )


def test_the_chain_rules_find_offences():
    assert missing_commands(sample_xml(), lambda name: Sample) == []
    assert missing_commands(sample_xml(command="SetNothing"), lambda name: Sample)
    assert different_defaults(sample_xml(), (SampleConfig,)) == []
    assert different_defaults(sample_xml(iterations="4"), (SampleConfig,))
    assert different_defaults(sample_xml(psnr="0.5"), (SampleConfig,))
    assert different_defaults(sample_xml(placement="0"), (SampleConfig,))
    assert different_defaults(sample_xml(resolution="8 8 9"), (SampleConfig,))


@pytest.mark.parametrize("path", XML_FILES, ids=lambda path: path.name)
def test_every_command_is_a_method(path):
    pytest.importorskip("vtkmodules", reason="needs ParaView's Python")
    root = ElementTree.parse(path).getroot()
    assert proxies(root), f"{path.name} names no Python class"
    assert missing_commands(root, import_class) == []


def test_every_xml_default_is_the_configuration_default():
    from apmgsrn_core import ModelConfig, TrainConfig

    roots = [ElementTree.parse(path).getroot() for path in XML_FILES]
    assert [line for root in roots for line in different_defaults(root, (ModelConfig, TrainConfig))] == []
    compared = {field.name for root in roots for _, _, field in properties_of_config(root, (ModelConfig, TrainConfig))}
    assert compared >= {"iterations", "time_budget", "stop_psnr", "placement", "seed", "number_of_grids"}


def offered(proxy: ElementTree.Element) -> dict[str, dict]:
    """{property: what the user can do with it}, less where the panel shows it."""
    shown = ("panel_visibility",)
    return {
        e.get("name"): {k: v for k, v in e.attrib.items() if k not in shown}
        for e in proxy
        if e.tag.endswith("Property")
    }


def unequal_twins(root: ElementTree.Element) -> list[str]:
    """Two proxies over one Python class (a source and a reader) must offer the same."""
    by_class = {}
    for proxy in proxies(root):
        by_class.setdefault(proxy.get("class"), []).append(proxy)
    return [
        f"{first.get('name')} and {other.get('name')} differ in {name}"
        for first, *others in by_class.values()
        for other in others
        for name in sorted(offered(first).keys() | offered(other).keys())
        if offered(first).get(name) != offered(other).get(name)
    ]


def test_the_twin_rule_finds_offences():
    root = ElementTree.fromstring("<G/>")
    root.extend([sample_xml(), sample_xml()])
    assert unequal_twins(root) == []
    root.append(sample_xml(iterations="4"))
    assert unequal_twins(root) == ["S and S differ in Iterations"]


@pytest.mark.parametrize("path", XML_FILES, ids=lambda path: path.name)
def test_proxies_of_one_class_offer_the_same(path):
    assert unequal_twins(ElementTree.parse(path).getroot()) == []


# ---- what lies where ---------------------------------------------------------------------------------


def strangers(tracked_files: list[str]) -> list[str]:
    return sorted({name.split("/")[0] for name in tracked_files} - TOP_LEVEL)


def test_top_level_holds_only_what_it_should():
    assert strangers(["plugin/a.py", "utils/b.py"]) == ["utils"]
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert strangers(listed.splitlines()) == []


SHARED = {"__init__", "__main__", "brick_layout", "device", "distributed", "errors", "grid", "messages", "region", "validation"}


def test_the_core_is_in_folders():
    core = ROOT / "apmgsrn_core"
    assert {path.stem for path in core.glob("*.py")} == SHARED, "a module belongs into a folder"
    for folder in {path.parent for path in core.rglob("*.py")} - {core}:
        count = len(list(folder.glob("*.py")))
        assert 2 <= count <= 26, f"{folder.name}: {count} modules"


def test_xml_is_no_package():
    assert XML_FILES
    assert not (ROOT / "xml" / "__init__.py").exists(), "it would shadow the standard package xml"


# ---- one numpy, one vtk; a light import ----------------------------------------------------------------


def inside_venv(files: list[str]) -> list[str]:
    venv = (ROOT / ".venv").resolve()
    return [name for name in files if venv in Path(name).resolve().parents]


@pytest.mark.parametrize("python", [sys.executable, "pvpython"], ids=["python", "pvpython"])
def test_numpy_and_vtk_are_those_of_paraview(python):
    assert inside_venv([str(ROOT / ".venv" / "lib" / "numpy.py")])
    if shutil.which(python) is None:
        pytest.skip(f"{python} not found")
    if python != "pvpython":
        pytest.importorskip("vtkmodules", reason="needs ParaView's Python")
    code = "import numpy, vtkmodules; print('FILES', numpy.__file__, vtkmodules.__file__, sep='|')"
    # -c alone: pvpython would rewrite other options
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    files = next(line for line in run.stdout.splitlines() if line.startswith("FILES")).split("|")[1:]
    assert len(files) == 2
    assert inside_venv(files) == []


def test_importing_the_core_is_light():
    code = "import sys, apmgsrn_core; print(sorted({'torch', 'mpi4py', 'vtkmodules'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
