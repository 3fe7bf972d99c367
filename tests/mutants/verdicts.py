"""
What mutmut knows of the mutants in the working directory, as JSON: ``python -m tests.mutants.verdicts``.

A verdict counts as long as its function is as it was when the mutant was tried.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import compute_function_hashes
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from tests.mutants.survivors import UNNOTICED

if TYPE_CHECKING:
    from collections.abc import Mapping


def verdicts() -> dict[str, tuple[str, str]]:
    """Return the state of each mutant, and what it changes if no test has noticed it."""
    found = {}
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        old = outdated(data.hash_by_function_name, Path(path).read_text(encoding="utf-8"))
        for mutant, code in data.exit_code_by_key.items():
            state = status_by_exit_code[None if mangled(mutant) in old else code]
            found[mutant] = state, get_diff_for_mutant(mutant, path=path) if state in UNNOTICED else ""
    return found


def mangled(mutant: str) -> str:
    """Return mutmut's name of the function of a mutant."""
    return mutant.partition("__mutmut_")[0].rpartition(".")[2]


def outdated(hashes: Mapping[str, str], source: str) -> set[str]:
    """Return the functions, by mutmut's names, that are not in *source* as they were when *hashes* were made."""
    now = compute_function_hashes(source)
    return {function for function, before in hashes.items() if now.get(function) != before}


if __name__ == "__main__":
    json.dump(verdicts(), sys.stdout)
