"""The ceiling: a tokenizer library alone, on text that is rendered already and lies in memory, with every core.

Nothing is read, masked or written in the time, so no preparation can be as fast. The tokenizer is new and has encoded
two conversations only; then its ids are compared with those of ``tokenizers`` on the first conversations.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import NUM_COMPARED, report, words, write_ids

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Flat = tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]
    """Ids of all texts one after another, and where each text's begin (``[N + 1]``)."""
    Encode = Callable[[Sequence[str]], Callable[[], Flat]]
    """Encodes, and gives what turns the library's own result into Flat: that part is not timed."""


def chatml(file: Path) -> list[str]:
    def turn(message: dict[str, str]) -> str:
        return f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"

    with file.open(encoding="utf-8") as rows:
        return ["".join(map(turn, json.loads(row)["messages"])) for row in rows]


def open_tokie(file: str) -> Encode:
    import numpy as np
    import tokie

    tokenizer: Any = tokie.Tokenizer.from_json(file)  # its stubs do not know encode_batch_flat

    def encode(texts: Sequence[str]) -> Callable[[], Flat]:
        ids, sizes = tokenizer.encode_batch_flat(texts, False)
        return lambda: (ids, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    return encode


def open_fastokens(file: str) -> Encode:
    import fastokens
    import numpy as np

    tokenizer = fastokens.Tokenizer.from_file(file)

    def encode(texts: Sequence[str]) -> Callable[[], Flat]:
        ids, ends = tokenizer.encode_batch_flat(texts)
        return lambda: (np.frombuffer(ids, dtype="<u4"), np.frombuffer(ends, dtype="<u8").astype(np.int64))

    return encode


def open_tokenizers(file: str) -> Encode:
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)

    def encode(texts: Sequence[str]) -> Callable[[], Flat]:
        made = tokenizer.encode_batch_fast(texts, add_special_tokens=False)

        def flat() -> Flat:
            lists = [e.ids for e in made]
            ends = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)
            return np.fromiter((i for x in lists for i in x), dtype=np.uint32, count=int(ends[-1])), ends

        return flat

    return encode


SETTINGS: dict[str, Callable[[str], Encode]] = {
    "tokie": open_tokie, "fastokens": open_fastokens, "tokenizers": open_tokenizers,
}


def lists(flat: Flat, count: int) -> list[list[int]]:
    ids, ends = flat
    return [ids[start:end].tolist() for start, end in itertools.pairwise(ends[: count + 1])]


def main() -> None:
    args = words("One tokenizer library alone", list(SETTINGS))
    file = str(args.tokenizer / "tokenizer.json")
    texts = chatml(args.data)
    encode = SETTINGS[args.setting](file)
    encode(texts[:2])

    start = time.perf_counter()
    made = encode(texts)
    seconds = time.perf_counter() - start

    flat = made()
    num_compared = min(NUM_COMPARED, len(texts))
    mine = lists(flat, num_compared)
    reference = lists(open_tokenizers(file)(texts[:num_compared])(), num_compared)
    report("ceiling", args.setting, conversations=len(texts), tokens=len(flat[0]), trained_tokens=None, seconds=seconds,
           compared=num_compared, equal=sum(a == b for a, b in zip(mine, reference, strict=True)))
    if args.ids:
        write_ids(args.ids, ((ids, None) for ids in mine))


if __name__ == "__main__":
    main()
