"""Reading a page as a browser does, for tests: its nesting, its tags, and the fields of its tables."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """A page whose every tag is closed; `tables` maps the id of a section to the rows of its tables, each a list of texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: dict[str, str] = {}
        self.feed(html)
        assert self.open == [], "a tag is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag == "tr":
            self.tables.setdefault(self._place(), []).append([])
        if tag in {"td", "th"}:
            self.tables[self._place()][-1].append("")
        if tag not in VOID:
            self.open.append((tag, found.get("id", "")))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.texts[self._place()] = self.texts.get(self._place(), "") + data
        if any(tag in {"td", "th"} for tag, _ in self.open):
            # The small line of a field is apart from the large one.
            field = self.tables[self._place()][-1]
            field[-1] = f"{field[-1]} {data.strip()}".strip()

    def _place(self) -> str:
        return next((name for _, name in reversed(self.open) if name), "")

    def row(self, section: str, *first: str) -> list[str]:
        """Return the fields of the first row of a section that begins with these."""
        return next(row for row in self.tables[section] if row[: len(first)] == list(first))

    def sources(self) -> list[str]:
        return [attributes["src"] for tag, attributes in self.tags if tag == "img"]
