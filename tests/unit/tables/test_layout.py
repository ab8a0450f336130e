import pytest

from nuclass_pipeline.tables.layout import printed


@pytest.mark.parametrize(
    ("value", "text"), [((0.12345,), "0.123"), ((float("nan"),), "–"), ((12345,), "12,345"), ((0.5, float("nan"), 0.6), "0.500")]
)
def test_printed(value: tuple[float, ...], text: str) -> None:
    assert printed(*value) == text
