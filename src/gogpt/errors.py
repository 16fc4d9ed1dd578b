"""GogptError: the only exception that a user should meet."""

from __future__ import annotations

from typing import Any


class GogptError(Exception):
    """A mistake in what was asked for, told once: code, place, what was got, what was expected, the fix.

    ``code`` is stable and has a page (``gogpt explain CODE``). ``exit_code`` is 2 when the question was wrong
    (bad input) and 1 when the answer is no (a check or a proof failed).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        where: str | None = None,
        got: str | None = None,
        expected: str | None = None,
        fix: str | None = None,
        exit_code: int = 2,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.got = got
        self.expected = expected
        self.fix = fix
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[Any, ...]:
        """By its fields: what is raised in another process arrives as what it is."""
        return _again, (type(self), self.args, dict(self.__dict__))

    def __str__(self) -> str:
        head = f"{self.code} {self.where}: " if self.where else f"{self.code}: "
        lines = [head + self.message]
        if self.got is not None:
            lines.append(f"  got:      {self.got}")
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.fix is not None:
            lines.append(f"  fix:      {self.fix}")
        return "\n".join(lines)


def _again(kind: type[GogptError], args: tuple[Any, ...], fields: dict[str, Any]) -> GogptError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class RowError(Exception):
    """One row cannot be used. It goes to the ledger under ``reason``; the file goes on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
