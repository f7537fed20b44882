"""Who may import whom, read from the source."""

import ast
import fnmatch
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("components", "pipeline", "serving", "trainer_modules")
PURE = [f"trainer_modules.{name}" for name in ("features", "contract", "metrics", "top_k", "baselines", "fit_pairs")]
# Module or pattern -> what it may import of ours; the first that fits counts. A package alone is its __init__.
ALLOWED = {
    "trainer_modules.features": [],
    "trainer_modules.contract": [],
    "trainer_modules.hyperparameters": ["trainer_modules.limits"],
    "trainer_modules.limits": [],
    "trainer_modules*": ["trainer_modules*"],
    "components.infra_server": ["components*", "serving*", "trainer_modules", *PURE],
    "components*": ["components*", "trainer_modules", *PURE],
    "serving*": ["serving*", "trainer_modules", "trainer_modules.contract"],
    "pipeline.graph": ["components*", "pipeline.settings", "pipeline.digests", "trainer_modules", *PURE],
    "pipeline*": ["*"],
}


def modules():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def our_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            for alias in node.names:
                below = ROOT.joinpath(*node.module.split("."), alias.name)
                is_module = below.is_dir() or below.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def allowed(module, imported):
    rule = next(rule for pattern, rule in ALLOWED.items() if fnmatch.fnmatch(module, pattern))
    return any(fnmatch.fnmatch(imported, pattern) for pattern in rule)


@pytest.mark.parametrize("module, path", list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_follow_the_rooms(module, path):
    wrong = sorted({name for name in our_imports(path) if not allowed(module, name)})
    assert not wrong, f"{module} imports {wrong}"


def test_the_rule_can_fail():
    assert not allowed("components.atomic_push", "trainer_modules.two_tower")
    assert not allowed("components.atomic_push", "serving.server")
    assert not allowed("serving.client", "components.errors")
    assert not allowed("trainer_modules.two_tower", "components.errors")
    assert allowed("components.infra_server", "serving.server")
