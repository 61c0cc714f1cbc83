"""The pages that are made from the code are as the code is now, and the picture of the folders shows every import."""

from functools import cache
from pathlib import Path

import import_graph
import pictures
import pytest
import reference
from pages import title_of

PATHS = [
    *(reference.DOCS / "reference" / f"{name}.md" for name in reference.PAGES),
    reference.DOCS / "architecture.md",
    reference.DOCS / "states.md",
]
pages = cache(reference.pages)  # in the tests, not for the collection: each process of the tests collects


@pytest.mark.parametrize("path", PATHS, ids=title_of)
def test_the_page_is_as_the_code_is_now(path: Path) -> None:
    assert path.read_text() == pages()[path], "run `make docs` and commit the pages"


def test_every_generated_page_is_compared() -> None:
    assert set(pages()) == set(PATHS)


def test_every_import_of_the_code_is_an_arrow_or_follows_from_arrows() -> None:
    imports = {name: part.imports for name, part in import_graph.parts().items()}
    drawn = import_graph.without_shortcuts(imports)

    def reached(name: str, seen: set[str]) -> set[str]:
        for target in drawn[name] - seen:
            reached(target, seen | {target})
            seen.add(target)
            seen |= reached(target, seen)
        return seen

    for name, targets in imports.items():
        assert targets <= reached(name, set()), name
        assert drawn[name] <= targets


def test_each_part_has_its_sentence() -> None:
    assert not [name for name, part in import_graph.parts().items() if not part.sentence]


def test_a_picture_has_every_box_arrow_and_label() -> None:
    drawn = pictures.svg(
        "stateDiagram-v2\n  [*] --> A: begin\n  A --> B\n  B --> A : again & again\n  B --> [*]", "states"
    )
    assert drawn.count('class="arrow"') == 4
    assert drawn.count('class="box') == 2
    assert "<li>(start) → A: begin</li><li>B → A: again &amp; again</li>" in drawn


def test_a_chart_that_cannot_be_drawn_is_named() -> None:
    with pytest.raises(ValueError, match="subgraph"):
        pictures.svg("flowchart TB\n  subgraph one", "x")
