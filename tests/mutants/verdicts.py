"""What mutmut knows of the mutants in the working directory, as JSON: ``python -m tests.mutants.verdicts``."""

from __future__ import annotations

import json
import sys

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from tests.mutants.survivors import UNNOTICED


def verdicts() -> dict[str, tuple[str, str]]:
    """Return the state of each mutant, and what it changes if no test has noticed it."""
    found = {}
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for mutant, code in data.exit_code_by_key.items():
            state = status_by_exit_code[code]
            found[mutant] = state, get_diff_for_mutant(mutant, path=path) if state in UNNOTICED else ""
    return found


if __name__ == "__main__":
    json.dump(verdicts(), sys.stdout)
