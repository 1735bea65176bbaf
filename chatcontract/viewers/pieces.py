"""The exact bytes behind token ids, and how to show them.

``tokenizer.decode([one_id])`` turns half a character into U+FFFD, so nothing here decodes ids one by one:
the bytes are read from the vocabulary entry itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_SHIFTED = tuple(byte for byte in range(256) if byte not in _PRINTABLE)
# GPT-2's byte-level alphabet (Radford et al. 2019, encoder.py): printable Latin-1 bytes stand for
# themselves, the other 68 are moved to U+0100 and up in byte order, so that no vocabulary entry holds a
# space or a control character.
_BYTE_OF = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + n): byte for n, byte in enumerate(_SHIFTED)}

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_META_SPACE = "\u2581"
_MARKS = {" ": "\u00b7", "\n": "\u21b5", "\t": "\u2192", "\r": "\u240d"}
_INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}


def token_pieces(ids: Sequence[int], tokenizer: Any) -> tuple[list[bytes], list[bool]]:
    """Bytes and special flag of each id.

    Args:
        ids: token ids, one row.
        tokenizer: a transformers tokenizer; the tokenizer of ``mistral_common`` or ``llama_models``; a
            ``tiktoken`` encoding; or a function from one id to ``str`` or ``bytes``.

    Returns:
        Two lists of ``len(ids)``: UTF-8 bytes as in the vocabulary, and whether the token is a special one.

    Raises:
        ValueError: an id is negative or not in the vocabulary; the message names its position.
        TypeError: the tokenizer is of none of the kinds above.
    """
    for index, one in enumerate(ids):
        if one < 0:
            raise ValueError(
                f"ids[{index}] is {one}, which is no token: pass input_ids here and labels as labels=..."
            )
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        return _from_transformers(ids, tokenizer)
    inner = getattr(getattr(tokenizer, "instruct_tokenizer", tokenizer), "tokenizer", tokenizer)
    if hasattr(inner, "id_to_byte_piece"):
        return _each(ids, inner.id_to_byte_piece), [bool(inner.is_special(one)) for one in ids]
    if hasattr(inner, "id_to_piece"):
        is_special = getattr(inner, "is_special", lambda one: False)
        return [_sentencepiece(piece) for piece in map(inner.id_to_piece, ids)], [
            bool(is_special(one)) for one in ids
        ]
    encoding = getattr(tokenizer, "model", tokenizer)
    if hasattr(encoding, "decode_single_token_bytes"):
        special_ids = {encoding.encode_single_token(name) for name in encoding.special_tokens_set}
        return _each(ids, encoding.decode_single_token_bytes), [one in special_ids for one in ids]
    if callable(tokenizer):
        return _each(ids, tokenizer), [False] * len(ids)
    raise TypeError(
        f"{type(tokenizer).__name__} is no tokenizer this viewer can read: "
        "pass a transformers tokenizer, or a function from one id to its text."
    )


def _each(ids: Sequence[int], lookup: Callable[[int], str | bytes]) -> list[bytes]:
    pieces = []
    for index, one in enumerate(ids):
        try:
            piece = lookup(one)
        except (KeyError, IndexError, OverflowError) as error:
            raise ValueError(f"ids[{index}] is {one}, which is not in the tokenizer's vocabulary.") from error
        pieces.append(piece.encode() if isinstance(piece, str) else bytes(piece))
    return pieces


def _from_transformers(ids: Sequence[int], tokenizer: Any) -> tuple[list[bytes], list[bool]]:
    entries = tokenizer.convert_ids_to_tokens(list(ids))
    added = tokenizer.added_tokens_decoder
    special_ids = set(tokenizer.all_special_ids) | {one for one, token in added.items() if token.special}
    read = _reader(tokenizer, entries)
    pieces = []
    for index, (one, entry) in enumerate(zip(ids, entries, strict=True)):
        if entry is None:
            raise ValueError(f"ids[{index}] is {one}, but the vocabulary has {len(tokenizer)} entries.")
        pieces.append(str(added[one]).encode() if one in added else read(entry))
    return pieces, [one in special_ids for one in ids]


def _reader(tokenizer: Any, entries: Sequence[str | None]) -> Callable[[str], bytes]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    state = decoder.__getstate__() if decoder is not None else b""
    kind = state.decode() if isinstance(state, bytes) else str(state)
    if '"ByteLevel"' in kind:
        return lambda entry: bytes(_BYTE_OF[char] for char in entry)
    if (
        '"Metaspace"' in kind
        or '"ByteFallback"' in kind
        or any(_META_SPACE in entry for entry in entries if entry)
    ):
        return _sentencepiece
    return str.encode


def _sentencepiece(piece: str) -> bytes:
    byte = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(_META_SPACE, " ").encode()


def visible(piece: bytes) -> str:
    """``piece`` with nothing hidden.

    A space is shown as a middle dot, a newline as a return arrow, a tab as an arrow. Bytes that are only a
    part of a character are shown in hexadecimal between angle brackets, and so are invisible characters and
    characters that would look like one of the marks, by code point.
    """
    text = piece.decode("utf-8", "surrogateescape")
    if text and text.isascii() and text.isprintable():
        return text.replace(" ", _MARKS[" "])
    shown: list[str] = []
    loose: list[str] = []
    for char in text:
        if "\udc80" <= char <= "\udcff":
            loose.append(f"{ord(char) - 0xDC00:02X}")
            continue
        if loose:
            shown.append(f"⟨{' '.join(loose)}⟩")
            loose = []
        if char in _MARKS:
            shown.append(_MARKS[char])
        elif char in _MARKS.values() or char in "⟨⟩" or unicodedata.category(char) in _INVISIBLE:
            shown.append(f"⟨U+{ord(char):04X}⟩")
        elif unicodedata.combining(char) and not shown:
            shown.append("\u25cc" + char)
        else:
            shown.append(char)
    if loose:
        shown.append(f"⟨{' '.join(loose)}⟩")
    return "".join(shown) or "⟨empty⟩"


def code_points(piece: bytes, most: int = 8) -> str:
    """The first ``most`` Unicode code points of ``piece``; bytes of a broken character in hexadecimal."""
    text = piece.decode("utf-8", "surrogateescape")
    names = [
        f"byte {ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else f"U+{ord(char):04X}"
        for char in text[:most]
    ]
    return " ".join(names) + (f" and {len(text) - most} more" if len(text) > most else "")


def shared_characters(pieces: Sequence[bytes]) -> dict[int, str]:
    """Which tokens hold only part of a character, as ``{token index: "bytes 1-2 of 3 of '€' (U+20AC)"}``.

    Positions come from the byte offsets of the whole sequence, so a character cut by two or more tokens is
    named in each of them.
    """
    broken = {index for index, piece in enumerate(pieces) if _is_broken(piece)}
    if not broken:
        return {}
    starts = [0]
    for piece in pieces:
        starts.append(starts[-1] + len(piece))
    notes: dict[int, list[str]] = {}
    first = 0
    position = 0
    for char in b"".join(pieces).decode("utf-8", "surrogateescape"):
        size = 1 if "\udc80" <= char <= "\udcff" else len(char.encode())
        end = position + size
        while starts[first + 1] <= position:
            first += 1
        index = first
        while size > 1 and index < len(pieces) and starts[index] < end and index in broken:
            low, high = max(starts[index], position), min(starts[index + 1], end)
            if high - low < size:
                named = f"{low - position + 1}" + (f"-{high - position}" if high - low > 1 else "")
                which = f"byte{'s' if high - low > 1 else ''} {named}"
                notes.setdefault(index, []).append(f"{which} of {size} of '{char}' (U+{ord(char):04X})")
            index += 1
        position = end
    return {index: ", ".join(parts) for index, parts in notes.items()}


def _is_broken(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return True
    return False
