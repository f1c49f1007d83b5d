"""What `import octavo` offers: pinned, lazy, and the same to programs and to type checkers."""

from __future__ import annotations

import ast
import inspect

import octavo

PUBLIC = {"Accepted", "AsyncClient", "AsyncGenerationStream", "AsyncSession", "AsyncSessionStream"}
PUBLIC |= {"Capabilities", "Client", "Delta", "Event", "FinishReason", "Finished", "Generation"}
PUBLIC |= {"GenerationDefaults", "GenerationParameters", "GenerationStream", "Message", "Model"}
PUBLIC |= {"OctavoError", "Output", "Session", "SessionStream", "Token", "Tokenization", "TopToken"}
PUBLIC |= {"Usage", "errors"}


def test_the_public_names_are_these() -> None:
    names = {name for name in dir(octavo) if name[0].isupper() or name == "errors"}
    assert names - {"Any", "TYPE_CHECKING"} == PUBLIC
    assert all(getattr(octavo, name) is not None for name in PUBLIC)


def test_type_checkers_see_the_same() -> None:
    imports = [
        n for n in ast.walk(ast.parse(inspect.getsource(octavo))) if type(n) is ast.ImportFrom
    ]
    seen = {alias.asname: node.module for node in imports for alias in node.names if alias.asname}
    assert seen.keys() == PUBLIC
    lazy = {name: module for name, module in seen.items() if (module or "").count(".") == 2}
    assert lazy == octavo._MODULE_OF


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    assert not hasattr(octavo, "Cleint")
