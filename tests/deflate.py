"""Inflates by the letter of RFC 1951 and RFC 7692, bit by bit: slow, and of nobody's making but ours. Knows no zlib."""

from __future__ import annotations

from collections.abc import Sequence

#: What ends a message, and is left out (RFC 7692 §7.2.1).
TAIL = b"\0\0\xff\xff"

# RFC 1951 §3.2.5: lengths 3 to 258, distances 1 to 32,768.
_LENGTH_BITS = [0] * 8 + [bits for bits in range(1, 6) for _ in range(4)] + [0]
_LENGTHS = [3 + sum(1 << bits for bits in _LENGTH_BITS[:n]) for n in range(28)] + [258]
_DISTANCE_BITS = [0, 0] + [bits for bits in range(14) for _ in range(2)]
_DISTANCES = [1 + sum(1 << bits for bits in _DISTANCE_BITS[:n]) for n in range(30)]
# §3.2.7
_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]


class Wrong(Exception):
    """That is no deflated message."""


class TooMuch(Exception):
    """It is more than is allowed."""


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.data = data
        #: Where it is, in bits.
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) * 8 - self.at

    def take(self, count: int) -> int:
        if count > self.left:
            raise Wrong("it ends within a block")
        value = 0
        for n in range(count):
            value |= (self.data[self.at >> 3] >> (self.at & 7) & 1) << n
            self.at += 1
        return value

    def align(self) -> None:
        self.at = self.at + 7 & ~7


class _Code:
    """A Huffman code by the lengths of its words (RFC 1951 §3.2.2)."""

    def __init__(self, lengths: Sequence[int], *, may_be_incomplete: bool = False) -> None:
        self._words: dict[tuple[int, int], int] = {}
        code = space = 0
        for length in range(1, 16):
            code <<= 1
            for symbol, its in enumerate(lengths):
                if its == length:
                    self._words[length, code] = symbol
                    code += 1
                    space += 1 << 15 - length
        # As zlib has it: one code of one bit may be alone, and of distances there need be none.
        used = [length for length in lengths if length]
        if space > 1 << 15 or (space < 1 << 15 and not (may_be_incomplete and used in ([], [1]))):
            raise Wrong("such a code there is not")

    def take(self, bits: _Bits) -> int:
        word = 0
        for length in range(1, 16):
            word = word << 1 | bits.take(1)
            if (length, word) in self._words:
                return self._words[length, word]
        raise Wrong("such a word the code has not")


_FIXED = (_Code([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8), _Code([5] * 32))


def _codes(bits: _Bits) -> tuple[_Code, _Code]:
    """Read the head of a block with codes of its own (RFC 1951 §3.2.7)."""
    literals, distances, count = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4
    if literals > 286 or distances > 30:
        raise Wrong("so many symbols there are not")
    lengths = [0] * 19
    for symbol in _ORDER[:count]:
        lengths[symbol] = bits.take(3)
    code, lengths = _Code(lengths), []
    while len(lengths) < literals + distances:
        symbol = code.take(bits)
        if symbol < 16:
            lengths.append(symbol)
        elif symbol == 16:
            if not lengths:
                raise Wrong("there is nothing to repeat")
            lengths += lengths[-1:] * (3 + bits.take(2))
        else:
            lengths += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
    if len(lengths) > literals + distances:
        raise Wrong("it repeats too much")
    if not lengths[256]:
        raise Wrong("the block could not end")
    return (
        _Code(lengths[:literals], may_be_incomplete=True),
        _Code(lengths[literals:], may_be_incomplete=True),
    )


def inflate(payload: bytes, before: bytes = b"", limit: int = 1 << 30) -> bytes:
    """Return the message that a payload holds (RFC 7692 §7.2.2).

    :param before: what was inflated before, to which it may refer back.
    :raises Wrong: when it holds none.
    :raises TooMuch: when more than the limit comes before anything is wrong.
    """
    bits = _Bits(payload + TAIL)
    out = bytearray(before)
    final = False

    def put(data: bytes) -> None:
        out.extend(data)
        if len(out) - len(before) > limit:
            raise TooMuch

    while bits.left:
        # Tolerated: nothing but the four bytes behind a final block, which has ended the message well.
        if final and bits.left == 32 and bits.at % 8 == 0:
            break
        final, kind = bool(bits.take(1)), bits.take(2)
        if kind == 0:
            bits.align()
            at = bits.at
            size = bits.take(16)
            if size != bits.take(16) ^ 0xFFFF:
                raise Wrong("the length is not its complement's")
            # What the tail is for is to end the last block, not to be what is in one.
            if at + 32 == len(bits.data) * 8:
                return bytes(out[len(before) :])
            for _ in range(size):
                put(bytes((bits.take(8),)))
        elif kind == 3:
            raise Wrong("such a kind of block there is not")
        else:
            literals, distances = _FIXED if kind == 1 else _codes(bits)
            while (symbol := literals.take(bits)) != 256:
                if symbol < 256:
                    put(bytes((symbol,)))
                    continue
                if symbol > 285:
                    raise Wrong("such a length there is not")
                size = _LENGTHS[symbol - 257] + bits.take(_LENGTH_BITS[symbol - 257])
                symbol = distances.take(bits)
                if symbol > 29:
                    raise Wrong("such a distance there is not")
                distance = _DISTANCES[symbol] + bits.take(_DISTANCE_BITS[symbol])
                if distance > len(out):
                    raise Wrong("that is before the beginning")
                for _ in range(size):
                    put(bytes(out[-distance:][:1]))
            if final:
                bits.align()
        # A block that ends within the tail was cut.
        if bits.at > len(payload) * 8:
            raise Wrong("it ends within a block")
    if not final:
        raise Wrong("it does not end with an empty block")
    return bytes(out[len(before) :])
