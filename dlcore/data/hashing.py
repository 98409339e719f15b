"""Numbers of strings: FarmHash's 64-bit fingerprint (Pike 2014), and SipHash-2-4 (Aumasson and
Bernstein 2012) where a key is given. Both are defined on 64-bit words, modulo 2^64.
"""

import struct

_ALL = 2**64 - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def _right(x, n):
    x &= _ALL
    return (x >> n | x << (64 - n)) & _ALL


def _left(x, n):
    return _right(x, 64 - n)


def _mixed(x):
    x &= _ALL
    return x ^ x >> 47


def _joined(u, v, factor):
    """One word of two."""
    a = _mixed((u ^ v) * factor)
    return _mixed((v ^ a) * factor) * factor & _ALL


def fingerprint(data):
    """The fingerprint of bytes, 0..2^64 - 1.

    Examples
    --------
    >>> fingerprint(b"") == 0x9AE16A3B2F90404F
    True
    """
    n = len(data)

    def word(i):
        return struct.unpack_from("<Q", data, i)[0]

    factor = _K2 + 2 * n
    if n <= 16:
        return _short(data, factor)
    if n <= 32:
        a, b = word(0) * _K1, word(8)
        c, d = word(n - 8) * factor, word(n - 16) * _K2
        first = _right(a + b, 43) + _right(c, 30) + d
        return _joined(first & _ALL, (a + _right(b + _K2, 18) + c) & _ALL, factor)
    if n > 64:
        return _long(data, word)
    a, b = word(0) * _K2, word(8)
    c, d = word(n - 8) * factor, word(n - 16) * _K2
    y = (_right(a + b, 43) + _right(c, 30) + d) & _ALL
    z = _joined(y, (a + _right(b + _K2, 18) + c) & _ALL, factor)
    e, f = word(16) * factor, word(24)
    g, h = (y + word(n - 32)) * factor, (z + word(n - 24)) * factor
    first = _right(e + f, 43) + _right(g, 30) + h
    return _joined(first & _ALL, (e + _right(f + a, 18) + g) & _ALL, factor)


def _short(data, factor):
    n = len(data)
    if n >= 8:
        a = (struct.unpack_from("<Q", data)[0] + _K2) & _ALL
        b = struct.unpack_from("<Q", data, n - 8)[0]
        c = (_right(b, 37) * factor + a) & _ALL
        d = (_right(a, 25) + b) * factor & _ALL
        return _joined(c, d, factor)
    if n >= 4:
        first, last = (struct.unpack_from("<I", data, i)[0] for i in (0, n - 4))
        return _joined(n + (first << 3), last, factor)
    if n == 0:
        return _K2
    y, z = data[0] + (data[n >> 1] << 8), n + (data[-1] << 2)
    return _mixed(y * _K2 ^ z * _K0) * _K2 & _ALL


def _long(data, word):
    """Of more than 64 bytes: blocks of 64, and the last 64 once more."""
    x, y = 81, (81 * _K1 + 113) & _ALL
    z = _mixed(y * _K2 + 113) * _K2 & _ALL
    v, w = (0, 0), (0, 0)
    x = (x * _K2 + word(0)) & _ALL

    def pair(at, a, b):
        a += word(at)
        c = a
        b = _right(b + a + word(at + 24), 21)
        a += word(at + 8) + word(at + 16)
        return (a + word(at + 24)) & _ALL, (b + _right(a, 44) + c) & _ALL

    def block(at, x, y, z, v, w, factor, nine):
        x = _right(x + y + v[0] + word(at + 8), 37) * factor
        y = _right(y + v[1] + word(at + 48), 42) * factor
        x ^= w[1] * nine
        y += v[0] * nine + word(at + 40)
        z = _right(z + w[0], 33) * factor
        v = pair(at, v[1] * factor, x + w[0])
        w = pair(at + 32, z + w[1], y + word(at + 16))
        return z & _ALL, y & _ALL, x & _ALL, v, w

    n = len(data)
    for at in range(0, (n - 1) // 64 * 64, 64):
        x, y, z, v, w = block(at, x, y, z, v, w, _K1, 1)
    factor = _K1 + ((z & 0xFF) << 1)
    w = (w[0] + (n - 1) % 64) & _ALL, w[1]
    v = (v[0] + w[0]) & _ALL, v[1]
    w = (w[0] + v[0]) & _ALL, w[1]
    x, y, z, v, w = block(n - 64, x, y, z, v, w, factor, 9)
    first = _joined(v[0], w[0], factor) + _mixed(y) * _K0 + z
    return _joined(first & _ALL, (_joined(v[1], w[1], factor) + x) & _ALL, factor)


def crossed(numbers, start=0xDECAFCAFFE):
    """One number of several, each of 64 bits, as MurmurHash (Appleby 2008) mixes words."""
    factor, result = 0xC6A4A7935BD1E995, start
    for number in numbers:
        result = (result ^ factor) ^ _mixed(number * factor) * factor & _ALL
        result = _mixed(_mixed(result * factor) * factor)
    return result


def keyed(data, key):
    """SipHash-2-4 of bytes with a key of two integers, 0..2^64 - 1."""
    a, b = (k & _ALL for k in key)
    v = [a ^ 0x736F6D6570736575, b ^ 0x646F72616E646F6D, a ^ 0x6C7967656E657261,
         b ^ 0x7465646279746573]  # fmt: skip

    def rounds(count):
        for _ in range(count):
            for i, j, s in ((0, 1, 13), (2, 3, 16)):
                v[i] = (v[i] + v[j]) & _ALL
                v[j] = _left(v[j], s) ^ v[i]
            v[0] = _left(v[0], 32)
            for i, j, s in ((2, 1, 17), (0, 3, 21)):
                v[i] = (v[i] + v[j]) & _ALL
                v[j] = _left(v[j], s) ^ v[i]
            v[2] = _left(v[2], 32)

    end = len(data) // 8 * 8
    tail = int.from_bytes(data[end:], "little") | (len(data) & 0xFF) << 56
    for m in (*(struct.unpack_from("<Q", data, i)[0] for i in range(0, end, 8)), tail):
        v[3] ^= m
        rounds(2)
        v[0] ^= m
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
