from functools import partial
from types import SimpleNamespace

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.tables import list_tables


def test_an_unknown_table_is_a_user_error() -> None:
    config = SimpleNamespace(tables={1: "cohort", 2: "nonsense"}, variants={})
    run = SimpleNamespace(error=partial(UserError, "run file"), config=config, heldout_slides=("a",))
    with pytest.raises(UserError, match=r"tables\.2: there is no table 'nonsense'"):
        list_tables(run)
