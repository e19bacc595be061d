"""mkdocs calls these as it builds the site: pages from outside docs/, text as the site's Markdown has it."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from studies.site import reference
from studies.site.links import OUTSIDE, ROOT, for_the_site

ASSETS = Path(__file__).parent / "assets"


def on_files(files: Files, config: Any) -> Files:
    """Add what does not lie in docs/."""
    for asset in sorted(ASSETS.iterdir()):
        files.append(File.generated(config, f"assets/{asset.name}", content=asset.read_text()))
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for name, made in reference.PAGES.items():
        files.append(File.generated(config, f"reference/{name}", content=made()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Give a page's text the form that the site needs."""
    return for_the_site(markdown, page.file.src_uri)
