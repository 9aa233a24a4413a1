"""Sealed safetensors files: named arrays and named strings in a file, without code or pickle.

Eight bytes with the length of a JSON header, the header, and the bytes of the arrays one after the
other, little-endian: https://github.com/huggingface/safetensors describes it, and its readers in
many languages open what is written here.  Chosen for what it does not need: no dependency (both
directions are below), no unpickling, no archive whose entries can point elsewhere or unpack to more
than the file holds.  An npz file with JSON inside would take more code to be as strict, because zip
leaves many of its own bytes without a checksum.

The seal is the SHA-256 of every other byte of the file, the first of the header's metadata and so
at a fixed place; it tells that a file is damaged or incomplete before anything in it is believed.
A reader never takes more memory than twice the file.  This module knows nothing of models.
"""

import hashlib
import json
import math
import os
import re
import struct
import threading
from pathlib import Path

import numpy as np

START = b'{"__metadata__":{"sha256":"'
SEAL = slice(8 + len(START), 8 + len(START) + 64)
MODEL = (
    "a model saved by fastbp.save does. A pickle is loaded with joblib.load or pickle.load, if you "
    "trust where it comes from."
)
DTYPES = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2",
        "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
    }.items()
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def require(condition, what):
    """Raise ValueError about a file that contradicts itself."""
    if not condition:
        raise ValueError(f"it is damaged or forged: {what}.")


def write(path, metadata, arrays, *, sync=False):
    """Write a sealed file; an existing one is replaced once the new one is complete.

    Parameters
    ----------
    path : str or path-like
    metadata : dict of str to str
    arrays : dict of str to ndarray
        C-contiguous, with dtypes among `DTYPES`.
    sync : bool, default=False
        Whether to wait until the disk has it, so that it outlives a failure of power.
    """
    path = Path(os.path.realpath(path))
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with open(part, "wb") as file:
            for piece in seal(metadata, arrays):
                file.write(piece)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if sync and hasattr(os, "O_DIRECTORY"):  # the new name, too; not on Windows
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_parts(path):
    """Remove what writers of this file left half-written when they were killed."""
    path = Path(os.path.realpath(path))
    pattern = re.compile(re.escape(path.name) + r"\.\d+\.\d+\.part")
    for found in path.parent.iterdir():
        if pattern.fullmatch(found.name):
            found.unlink(missing_ok=True)


def seal(metadata, arrays):
    """Return the pieces of a sealed file, one after the other; for the parameters see `write`."""
    header, pieces = _lay_out(metadata, arrays)
    head, tail = header[: SEAL.start], header[SEAL.stop :]
    return [head, _seal(head, tail, *pieces), tail, *pieces]


def _lay_out(metadata, arrays):
    """Header with the seal left open, and the bytes of the arrays in their order."""
    header, pieces, at = {"__metadata__": {"sha256": "0" * 64, **metadata}}, [], 0
    # The widest elements first: every array then begins at a multiple of its element's size.
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        header[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        pieces.append(array.reshape(-1).view(np.uint8))
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, pieces


def _seal(*pieces):
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest().encode()


def open_sealed(content, kind=MODEL):
    """Take a file apart whose seal is intact.

    Parameters
    ----------
    content : bytes
    kind : str
        What the file should be, for an error.

    Returns
    -------
    metadata : dict
        As written, and the seal; not checked further.
    header : dict
        Entries of the arrays, for `read_arrays`.
    data : memoryview
        What follows the header.

    Raises
    ------
    ValueError
        If this is no such file, or a byte of it has changed.
    """
    if content[8 : SEAL.start] != START:
        raise ValueError(f"it does not begin as {kind}")
    content = memoryview(content)
    if content[SEAL] != _seal(content[: SEAL.start], content[SEAL.stop :]):
        raise ValueError("its checksum is wrong: the file is damaged or incomplete.")
    (n_bytes,) = struct.unpack("<Q", content[:8])
    require(n_bytes <= len(content) - 8, "the header ends behind the file")
    header = json.loads(str(content[8 : 8 + n_bytes], "utf-8"))
    return header.pop("__metadata__"), header, content[8 + n_bytes :]


def read_arrays(header, data):
    """Arrays by name, each with memory of its own; they must fill `data` without a gap.

    Parameters
    ----------
    header : dict
    data : memoryview
        Both from `open_sealed`.

    Returns
    -------
    dict of str to ndarray
    """
    arrays, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        for number in (*shape, start, stop):
            require(type(number) is int and 0 <= number < 2**48, f"{name!r} has {number!r}")
        n_bytes = math.prod(shape) * dtype.itemsize
        require(
            len(shape) <= 32 and start == end and stop - start == n_bytes and stop <= len(data),
            f"array {name!r} of shape {shape} is not where it says",
        )
        native = dtype.newbyteorder("=")
        arrays[name] = np.frombuffer(data[start:stop], dtype).astype(native).reshape(shape)
        end = stop
    require(end == len(data), "it holds bytes that belong to no array")
    return arrays
