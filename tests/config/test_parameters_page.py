"""docs/parameters.md is in step with the code."""

from pathlib import Path

from flowers.config import parameters_page, params

CHECKOUT = Path(__file__).parents[2]


def test_the_page_is_what_the_code_describes():
    """If it is not: python -m flowers.config.parameters_page."""
    written = (CHECKOUT / parameters_page.PAGE).read_text(encoding="utf-8")
    assert written == parameters_page.page(params.load(CHECKOUT / "params.yaml"))


def test_every_parameter_has_a_row_with_its_meaning():
    page = parameters_page.page(params.load(CHECKOUT / "params.yaml"))
    for section, field in params.Params.model_fields.items():
        for key in field.annotation.model_fields:
            (row,) = [line for line in page.splitlines() if line.startswith(f"| `{section}.{key}` |")]
            assert len(row.split("|")[-2]) > 10
