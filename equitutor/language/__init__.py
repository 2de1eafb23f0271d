"""Language: lists of words as a group on a vocabulary, EquiLM and EquizeroLM, and how texts speak of people.

What is not about language models (SCAN's networks, downloads, figures) lives elsewhere.

Transformers' Auto classes know EquiLM once this package is imported. As it loads neither transformers nor
torch, which take seconds, it waits for the Auto classes: they are told when they are loaded themselves.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from typing import Any

# Modules of transformers, and those of ours that register something there when they are imported.
_REGISTERED = {
    "transformers.models.auto.configuration_auto": "equitutor.language.config",
    "transformers.models.auto.modeling_auto": "equitutor.language.lm",
}


class _Registration(MetaPathFinder):
    """Imports a module of ours right after one of transformers."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in _REGISTERED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                run(module)
                import_module(_REGISTERED[fullname])

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Registration())
for _theirs, _ours in _REGISTERED.items():
    if _theirs in sys.modules:
        import_module(_ours)
