"""The table of hostile input names tests that exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "reliability.md").read_text("utf-8")


def functions(file: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(file.read_text("utf-8"))) if is_test(node)}


def is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def test_each_test_in_the_table_exists():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)
    assert len(named) > 80
    for file, test in named:
        assert test in functions(TESTS / file), f"{file}::{test}"


def test_each_test_of_hostile_input_is_in_the_table():
    for file in sorted(TESTS.glob("faults/test_hostile_*.py")):
        for test in sorted(functions(file)):
            known = f"faults/{file.name}::{test}" in TABLE
            assert known or test in UNLISTED, f"{file.name}::{test}"


# Of sound files and of people's own names.
UNLISTED = {
    "test_a_state_forged_soundly_is_read",
    "test_a_folder_whose_name_is_no_text",
    "test_a_list_of_names_that_steer_the_terminal",
}
