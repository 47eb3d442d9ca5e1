"""What tools do to a file of lines on its way, told by how a line that is wrong looks: nobody has to be suspected then."""

from __future__ import annotations

_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"BZh", b"\xfd7zXZ")


def oddity(line: bytes) -> str | None:
    """Say in words what became of a line, None when it is nothing that a tool does."""
    if not line.strip():
        return "the line is empty"
    if line.endswith(b"\r"):
        return "the line ends with a carriage return: the file was converted to other line ends"
    if line.startswith(_BYTE_ORDER_MARKS):
        return "the file begins with a byte order mark, or is not UTF-8: an editor wrote it"
    if line.startswith(_COMPRESSED):
        return "the file is compressed: unpack it first"
    if not line.endswith(b"}"):
        return "the line ends in the middle: the file was cut off"
    return None
