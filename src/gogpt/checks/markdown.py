"""The pages as Markdown: ``python -m gogpt.checks.markdown docs/checks`` writes one file a code, and an index."""

from __future__ import annotations

import sys
from pathlib import Path

from gogpt.checks import CHECKS, codes, page_of

HEADINGS = {
    "en": ("What it checks", "Why it matters", "How to fix", "Example"),
    "zh": ("检查什么", "为什么重要", "怎样修正", "示例"),
}


def page_markdown(code: str, lang: str = "en") -> str:
    """The page of a code. Raises GogptError CFG205."""
    page = page_of(code)
    bodies = (page.what.of(lang), page.why.of(lang), page.fix.of(lang), f"```text\n{page.example}\n```")
    parts = [f"# {code}: {page.title.of(lang)}"]
    for heading, body in zip(HEADINGS["zh" if lang == "zh" else "en"], bodies, strict=True):
        parts += [f"## {heading}", body]
    return "\n\n".join(parts) + "\n"


def index_markdown() -> str:
    """The table of all codes, for ``docs/checks/README.md``."""
    checks = {c.code: c for c in CHECKS}
    lines = [
        "# Checks and errors", "",
        "Codes are stable, and each has a page: `gogpt explain CODE`. A check of severity error refuses to train, or stops the run;",
        "`checks: {allow: [CODE]}` in a recipe lets one pass, and the run records it. Codes without a check are errors: what was asked",
        "for cannot be done.", "",
        "| code | check | stage | severity | title |", "|---|---|---|---|---|",
    ]
    for code in codes():
        check = checks.get(code)
        kind = f"`{check.name}` | {check.stage.value} | {check.severity.value}" if check else "- | - | error"
        lines.append(f"| [{code}]({code}.md) | {kind} | {page_of(code).title.en} |")
    return "\n".join(lines) + "\n"


def write_pages(folder: Path) -> None:
    """Write ``CODE.md`` for every code, and ``README.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    for code in codes():
        (folder / f"{code}.md").write_text(page_markdown(code), encoding="utf-8")
    (folder / "README.md").write_text(index_markdown(), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/checks"))
