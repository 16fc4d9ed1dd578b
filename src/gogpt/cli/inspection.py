"""An inspection of data, and the catalogue, as text of at most 80 columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from gogpt.data.catalogue import Dataset
    from gogpt.data.inspection import Bin, FileInspection, Inspection, Spread

WIDTH, NARROWEST = 80, 72
NUM_FILES = 10
"""Files listed; a folder may hold thousands."""
NUM_LANGUAGES = 8
NUM_PLACES = 3


def narrow(console: Console) -> Console:
    """The console, at most 80 columns wide and wrapping in its cells; below 72 the terminal does the wrapping."""
    console.width = max(min(console.width, WIDTH), NARROWEST)
    console.soft_wrap = False
    return console


def print_inspection(found: Inspection, labels: Mapping[str, str], console: Console) -> None:
    """Everything that an inspection found; nothing where a section has nothing to say."""
    printer = _Printer(labels, narrow(console), [f.path for f in found.files])
    printer.files(found.files)
    printer.counts(found)
    printer.lengths(found)
    printer.languages(found)
    printer.notices(found)


class _Printer:
    def __init__(self, labels: Mapping[str, str], console: Console, paths: Sequence[str] = ()) -> None:
        self.labels, self.console, self.paths = labels, console, paths
        self.blocks = _can_print("█▏", console)

    def say(self, key: str, **values: Any) -> str:
        return self.labels.get(key, key).format(**{k: f"{v:,}" if isinstance(v, int) else v for k, v in values.items()})

    def heading(self, text: str) -> None:
        from rich.text import Text

        self.console.print()
        self.show(Text(text, style="bold"))

    def show(self, table: RenderableType) -> None:
        """A table or a block, without the spaces that fill its lines where the lines go to a file."""
        if self.console.is_terminal:
            self.console.print(table)
            return
        with self.console.capture() as captured:
            self.console.print(table)
        self.console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def pairs(self, lines: Iterable[tuple[str, str]]) -> None:
        """Key and value in two columns; a long value wraps in its own."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in lines:
            table.add_row(Text(f"  {key}", style="dim"), Text(value))
        self.show(table)

    def places(self, places: Sequence[str]) -> str:
        """``a.json:4, a.json:7``, without folders; rows alone where there is but one file."""
        text = ", ".join(places)
        for path in sorted(self.paths, key=len, reverse=True):
            text = text.replace(f"{path}:", "" if len(self.paths) == 1 else f"{Path(path).name}:")
        return f"{self.say('row')} {text}" if len(self.paths) == 1 else text

    def table(self, names: Sequence[str], rows: Iterable[Sequence[str]], *, text: Sequence[int] = (0,)) -> None:
        """Numbers to the right, the columns ``text`` to the left."""
        from rich.text import Text

        table = _plain_table()
        for i, name in enumerate(names):
            table.add_column(Text(name if i else f"  {name}"), justify="left" if i in text else "right", overflow="fold", no_wrap=i not in text)
        for row in rows:
            table.add_row(*(Text(cell if i else f"  {cell}") for i, cell in enumerate(row)))
        self.show(table)

    # -- sections ----------------------------------------------------------------------------------

    def files(self, files: Sequence[FileInspection]) -> None:
        from rich.text import Text

        if len(files) == 1:
            self.show(Text(files[0].path, style="bold"))
            self.evidence(files[0])
            return
        folder = os.path.commonpath([f.path for f in files])
        self.show(Text(f"{folder or self.say('files')}", style="bold"))
        self.table([self.say(k) for k in ("file", "schema", "rows", "conversations", "dropped")],
                   [[os.path.relpath(f.path, folder or "."), f.schema or "-", f"{f.rows:,}", f"{f.conversations:,}", f"{f.dropped:,}"] for f in files[:NUM_FILES]], text=(0, 1))
        if len(files) > NUM_FILES:
            self.show(Text("  " + self.say("more_files", n=len(files) - NUM_FILES), style="dim"))
        for file in [f for f in files if f.error is not None][:NUM_FILES]:
            error = file.error or {}
            self.show(Text(f"  {os.path.relpath(file.path, folder or '.')}: ")
                               + Text(self.say("unreadable_file", code=str(error["code"]), message=str(error["message"])), style="red"))
        seen: set[str] = set()
        for file in files:
            if file.evidence is not None and file.schema not in seen:
                seen.add(str(file.schema))
                self.console.print()
                self.show(Text(f"{file.schema}  ", style="bold") + Text(file.path, style="dim"))
                self.evidence(file)

    def evidence(self, file: FileInspection) -> None:
        from gogpt.report.inspect import why

        found = file.evidence
        if found is None:
            return
        self.pairs([
            (self.say("schema"), f"{file.schema}: {why(found, self.say)}"),
            (self.say("read"), fields(found.read, found.sampled) or self.say("none_usable")),
            (self.say("ignored"), fields(found.ignored, found.sampled) or self.say("none")),
        ])

    def counts(self, found: Inspection) -> None:
        self.heading(self.say("counts"))
        only_texts = found.texts and found.texts == found.conversations
        lines = [(self.say("rows"), self.say(
            "in_equals_texts" if only_texts else "in_equals", rows=found.rows_in, kept=found.conversations, dropped=sum(found.drops.values())))]
        lines += [("", f"{reason} {n:,} ({percent(n, found.rows_in)}), {self.say('first')} {self.places(list(found.first.get(reason, ()))[:3])}")
                  for reason, n in found.drops.items()]
        lines += [(self.say("note"), note if n == 1 else f"{note}: {n:,}") for note, n in found.notes.items()]
        if not only_texts:
            lines.append((self.say("turns"), f"{found.turns:,} ({self.say('turns_note', n=found.multi_turn)})"))
            lines.append((self.say("messages"), ", ".join(f"{role} {n:,}" for role, n in found.messages.items()) or self.say("none")))
            lines.append((self.say("system_messages"), self.say("system_note", n=found.system.conversations, distinct=found.system.distinct)
                          if found.system.conversations else self.say("none")))
            tools = found.tools
            used = tools.conversations or tools.calls or tools.results
            lines.append((self.say("tools"), self.say("tools_note", n=tools.conversations, calls=tools.calls, results=tools.results)
                          if used else self.say("no_tools")))
            if tools.names:
                lines.append(("", ", ".join(f"{name} {n:,}" for name, n in tools.names.items())))
        self.pairs(lines)

    def lengths(self, found: Inspection) -> None:
        rows = [[self.say("characters"), self.say(kind), *_spread(s)] for kind, s in found.characters.items()]
        tokens = found.tokens
        if tokens is not None and tokens.lengths is not None:
            rows.append([self.say("tokens"), self.say("conversation"), *_spread(tokens.lengths)])
        if not rows:
            return
        self.heading(self.say("lengths"))
        self.table([self.say(k) for k in ("unit", "kind", "count", "min", "median", "mean", "p95", "max")], rows, text=(0, 1))
        self.histogram(found.histogram, self.say("histogram_characters"))
        if tokens is None:
            self.pairs([(self.say("tokens"), self.say("name_a_model"))])
            return
        self.histogram(tokens.histogram, self.say("histogram_tokens"))
        self.console.print()
        self.pairs([(self.say("tokens"), self.say("tokens_of", total=tokens.total, trained=tokens.trained, share=percent(tokens.trained, tokens.total),
                                                  model=tokens.model, template=tokens.template) + self.say("semicolon") + self.say("sequences", n=tokens.sequences))])
        self.table([self.say("max_length"), self.say("longer"), self.say("share")],
                   [[f"{o.max_length:,}", f"{o.count:,}", f"{o.share:.1%}"] for o in tokens.over], text=())

    def histogram(self, bins: Sequence[Bin], title: str) -> None:
        self.console.print()
        self.bars(title, [(f"{b.low:,} - {b.high - 1:,}" if b.high - b.low > 1 else f"{b.low:,}", b.count) for b in bins], right=True)

    def bars(self, title: str, items: Sequence[tuple[str, int]], *, right: bool = False) -> None:
        """A bar for each count, with its number and its share of all."""
        from rich.cells import cell_len
        from rich.text import Text

        total = sum(n for _, n in items)
        most = max((n for _, n in items), default=0)
        if not total:
            return
        self.show(Text(f"  {title}"))
        names, counts = max(cell_len(name) for name, _ in items), len(f"{most:,}")
        room = max(8, self.console.width - names - counts - 15)
        for name, n in items:
            pad = " " * (names - cell_len(name))
            line = Text("  " + (pad + name if right else name + pad) + "  ")
            drawn = self.bar(n / most, room)
            line.append(drawn, style="cyan")
            line.append(" " * (room - len(drawn)) + f"  {n:>{counts},}  {percent(n, total):>6}")
            self.show(line)

    def bar(self, share: float, room: int) -> str:
        """``share`` of ``room`` columns; anything above nothing is seen."""
        if not self.blocks:
            return "#" * max(round(share * room), int(share > 0))
        eighths = max(round(share * room * 8), int(share > 0))
        return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]

    def languages(self, found: Inspection) -> None:
        if not found.conversations:
            return
        by_script = found.languages.method == "script"
        self.heading(self.say("scripts" if by_script else "languages"))
        counts = list(found.languages.counts.items())
        if len(counts) > NUM_LANGUAGES:
            rest = counts[NUM_LANGUAGES - 1 :]
            counts = [*counts[: NUM_LANGUAGES - 1], (", ".join(code for code, _ in rest[:6]), sum(n for _, n in rest))]
        self.bars(self.say("by_script") if by_script else self.say("by", method=found.languages.method),
                  [(self.say(code) if code in self.labels else code, n) for code, n in counts])

    def notices(self, found: Inspection) -> None:
        self.heading(self.say("notices"))
        if not found.notices:
            self.pairs([("", self.say("no_notices"))])
            return
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        for n in found.notices:
            what = self.say(n.name) + (self.say("colon") + spelling(n.spelled) if n.spelled else "")
            table.add_row(Text(f"  {n.count:,}"), Text(f"{n.share:.1%}"), Text(what) + Text(f"\n{self.say('first')} {self.places(n.first[:NUM_PLACES])}", style="dim"))
        self.show(table)


def print_catalogue(chosen: Sequence[Dataset], total: int, labels: Mapping[str, str], lang: str, console: Console) -> None:
    """Each entry: id, name, facts, what it is good for, and its trap."""
    from rich.padding import Padding
    from rich.text import Text

    printer = _Printer(labels, narrow(console))
    for d in chosen:
        rows = printer.say("unknown_rows") if d.rows is None else printer.say("about" if d.about else "rows_unit", n=d.rows)
        schema = f"{printer.say('schema').lower()} {d.schema}" + ("" if d.readable else f" ({printer.say('not_read')})")
        facts = [rows, " ".join(d.languages), labels.get(d.licence, d.licence), schema, ", ".join(printer.say(f"task_{t}") for t in d.tasks)]
        printer.show(Text(d.id, style="bold") + Text(f"  {d.name}"))
        body = Text(" · ".join(facts), style="dim") + Text(f"\n{printer.say('good_for')}{printer.say('colon')}{d.good_for[lang]}\n", style="not dim")
        printer.show(Padding(body + Text(printer.say("trap"), style="yellow") + Text(printer.say("colon") + d.trap[lang]), (0, 0, 0, 2)))
    printer.show(printer.say("catalogue_count", n=len(chosen), of=total))


def _plain_table() -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 1), header_style="dim", show_edge=False)


def _spread(s: Spread) -> list[str]:
    return [f"{s.count:,}", f"{s.min:,}", f"{s.median:,.1f}".removesuffix(".0"), f"{s.mean:,.1f}", f"{s.p95:,}", f"{s.max:,}"]


def percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def fields(counts: Mapping[str, int], sampled: int) -> str:
    """Names of fields; those that not every sampled row has, with their number of rows."""
    return ", ".join(name if n == sampled else f"{name} ({n})" for name, n in counts.items())


def spelling(spelled: Mapping[str, int], most: int = 3, width: int = 24) -> str:
    """How something is spelled, the most frequent first; long texts and line breaks cut short."""
    shown = [(text if len(text) <= width else text[: width - 1] + "…").replace("\n", "⏎") for text in list(spelled)[:most]]
    return ", ".join(shown) + (", …" if len(spelled) > most else "")


def _can_print(text: str, console: Console) -> bool:
    try:
        text.encode(getattr(console.file, "encoding", None) or sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
