"""The documents: their links lead somewhere, and the guide's pictures are those that its script makes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / "tests").rglob("*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchor(heading: str) -> str:
    """As it is shown on the web: in small letters, blanks as dashes, no punctuation."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links(document: Path) -> list[str]:
    found = []
    for target in LINK.findall(document.read_text()):
        if "://" in target:
            continue
        name, _, place = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if not path.exists():
            found.append(target)
        elif place and place not in map(anchor, re.findall(r"(?m)^#+ (.+)$", path.read_text())):
            found.append(target)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    assert broken_links(document) == []


def test_a_broken_link_is_found(tmp_path):
    document = tmp_path / "a.md"
    document.write_text("# One, two\n[a](b.md) [c](#one-two) [d](#three) ![e](a.md) [f](https://example.org/x)\n")
    assert broken_links(document) == ["b.md", "#three"]


def test_every_picture_of_the_guide_has_its_scene_and_is_shown():
    guide = ROOT / "examples" / "guide"
    spec = importlib.util.spec_from_file_location("pictures", guide / "pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    assert {path.stem for path in guide.glob("*.png")} == set(pictures.SCENES)
    shown = set(LINK.findall((guide / "README.md").read_text()))
    assert {f"{name}.png" for name in pictures.SCENES} <= shown
