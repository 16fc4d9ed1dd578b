"""OpenAssistant: rows that are single messages, joined by ``parent_id``; and exported trees of replies.

Every path from a root to a leaf is a conversation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, text_of
from gogpt.data.shapes.turns import role_of
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin


def _conversation(path: Sequence[Row], origin: Origin) -> Conversation:
    """One conversation of the messages on a path. Raises RowError where one of them was deleted or refused in review."""
    for message in path:
        if message.get("deleted") is True:
            raise RowError("deleted", f"message {message.get('message_id')} is deleted")
        if message.get("review_result") is False:
            raise RowError("failed_review", f"message {message.get('message_id')} was refused in review")
    return finish([Message(role=role_of(m.get("role"), f"message {i}"), content=text_of(m.get("text"), f"message {i}"))
                   for i, m in enumerate(path, start=1)], origin)


# -- flat ------------------------------------------------------------------------------------------


def fits_flat(row: Row) -> bool:
    return {"message_id", "parent_id", "text", "role"} <= set(row) or isinstance(row.get("oasst_path"), list)


def to_flat(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    """A row is one message; ``join`` hands over all those of a path."""
    path = row.get("oasst_path", [row])
    if not all(isinstance(m, Mapping) for m in path):
        raise RowError("wrong_type", "a path of messages that are no objects")
    return _conversation(path, origin)


def join(rows: Iterable[tuple[Row | RowError, Origin]], note: Note) -> Iterator[tuple[Row | RowError, Origin]]:
    """The messages of a file -> one row for each path from a root to a leaf, in the place of the leaf.

    A row that is no message, or that is on no path, comes out as an error of its own: none is lost.
    """
    messages: dict[str, tuple[Row, Origin]] = {}
    order: list[tuple[str | RowError, Origin]] = []
    for row, origin in rows:
        if isinstance(row, RowError) or not fits_flat(row) or "oasst_path" in row:
            order.append((row if isinstance(row, RowError) else RowError("other_schema", "not of schema oasst"), origin))
            continue
        number = row["message_id"]
        if not isinstance(number, str) or number in messages:
            order.append((RowError("wrong_type" if not isinstance(number, str) else "duplicate_id", f"message_id is {number!r}"), origin))
            continue
        messages[number] = (row, origin)
        order.append((number, origin))
        note("rows that are single messages: joined into conversations by parent_id")
    parents = {row["parent_id"] for row, _ in messages.values() if isinstance(row["parent_id"], str)}
    reached: set[str] = set()
    for number, origin in order:
        if isinstance(number, RowError):
            yield number, origin
        elif number not in parents:
            yield _path(number, messages, reached), origin
    for number, (_, origin) in messages.items():
        if number not in reached:
            yield RowError("cycle", f"message {number} answers itself through its parents"), origin


def _path(leaf: str, messages: Mapping[str, tuple[Row, Origin]], reached: set[str]) -> Row | RowError:
    path: list[Row] = []
    number: Any = leaf
    while number is not None:
        if not isinstance(number, str) or number not in messages:
            return RowError("orphan", f"message {leaf}: its ancestor {number!r} is not in the file")
        row, _ = messages[number]
        path.append(row)
        reached.add(number)
        number = row["parent_id"]
        if len(path) > len(messages):
            return RowError("cycle", f"message {leaf} answers itself through its parents")
    return {"oasst_path": path[::-1]}


# -- trees -----------------------------------------------------------------------------------------


def fits_tree(row: Row) -> bool:
    root = row.get("prompt")
    return isinstance(root, Mapping) and "text" in root and "role" in root


def parts(row: Row) -> Sequence[Row]:
    """One tree without branches for each path; a deleted message, or one refused in review, ends its path."""
    out: list[Row] = []
    open_paths: list[list[Any]] = [[row["prompt"]]]
    while open_paths:
        path = open_paths.pop()
        last = path[-1]
        replies = last.get("replies") if isinstance(last, Mapping) else None
        if isinstance(replies, list) and replies and last.get("deleted") is not True and last.get("review_result") is not False:
            open_paths += [[*path, reply] for reply in reversed(replies)]
        else:
            out.append({"prompt": _chain(path)})
    return out


def _chain(path: Sequence[Any]) -> Any:
    chain: Any = None
    for message in reversed(path):
        chain = {**message, "replies": [] if chain is None else [chain]} if isinstance(message, Mapping) else message
    return chain


def to_tree(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    path: list[Row] = []
    message: Any = row["prompt"]
    while message is not None:
        if not isinstance(message, Mapping):
            raise RowError("wrong_type", f"a reply is {type(message).__name__}, want an object")
        path.append(message)
        replies = message.get("replies")
        message = replies[0] if isinstance(replies, list) and replies else None
    return _conversation(path, origin)


def _message(number: str, parent: str | None, role: str, text: str) -> Row:
    return {"message_id": number, "parent_id": parent, "role": role, "text": text, "lang": "en", "deleted": False, "review_result": True,
            "rank": None, "message_tree_id": "a"}


OASST = Schema(
    name="oasst",
    wants="message_id, parent_id, role, text: one message a row",
    doc="OpenAssistant's flat export. The messages of a file are joined by parent_id; every path from a prompt to a last reply is a conversation, "
    "so earlier turns stand in several.",
    keys=("message_id", "parent_id", "text", "role", "deleted", "review_result"),
    fits=fits_flat,
    to_conversation=to_flat,
    join=join,
    examples=(_message("a", None, "prompter", "Hi"), _message("b", "a", "assistant", "Hello!"), _message("c", "a", "assistant", "Good day."),
              _message("d", "c", "prompter", "And?"), _message("e", "d", "assistant", "Fine.")),
    not_mine=({"message_id": "a", "text": "x", "role": "prompter"}, {"text": "x"}),
)

OASST_TREES = Schema(
    name="oasst_trees",
    wants="prompt: {text, role, replies: [...]}",
    doc="OpenAssistant's export of whole trees. Every path from the prompt to a last reply is a conversation.",
    keys=("message_tree_id", "prompt"),
    fits=fits_tree,
    to_conversation=to_tree,
    parts=parts,
    examples=(
        {"message_tree_id": "a", "tree_state": "ready_for_export", "prompt": {"text": "Hi", "role": "prompter", "replies": [
            {"text": "Hello!", "role": "assistant", "replies": []},
            {"text": "Good day.", "role": "assistant", "replies": [{"text": "And?", "role": "prompter", "replies": [{"text": "Fine.", "role": "assistant"}]}]}]}},
        {"message_tree_id": "b", "prompt": {"text": "Hi", "role": "prompter", "replies": [{"text": "Hello!", "role": "assistant"}]}},
    ),
    not_mine=({"prompt": "x", "completion": "y"}, {"prompt": [{"role": "user", "content": "x"}]}),
)
