"""Generated pages match the code, and pinned stages match their recorded code; `make docs` brings both up to date."""

import pytest

from nuclass_pipeline.generated_docs import pages
from tests import ROOT


@pytest.mark.parametrize("path", pages(ROOT))
def test_generated_pages_are_up_to_date(path):
    remedy = "run `make docs`; if it is stages.tsv, first raise STAGE_VERSION unless results stay the same"
    assert (ROOT / path).read_text() == pages(ROOT)[path], f"{path} is stale: {remedy}"
