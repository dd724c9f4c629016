"""IDX files are read exactly or refused with what was expected and found."""

import gzip
import hashlib
import math
import struct
import tracemalloc
import zlib
from pathlib import Path

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from digitflow.tasks.data.idx.arrays import (
    IdxError,
    check_pair,
    decode,
    encode,
    write,
    write_blocks,
)
from digitflow.tasks.data.idx.header import check_complete

CODES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def header(code: int, *shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)


GOOD = header(0x08, 2, 3) + bytes(range(6))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some-idx2-ubyte"


def refusal(file: Path, data: bytes, **options: int) -> str:
    """Decode `data`, which must fail, and return the message without the file's name."""
    file.write_bytes(data)
    with pytest.raises(IdxError) as caught:
        decode(file, **options)
    name, text = str(caught.value).split(": ", 1)
    assert name == str(file)
    return text


# Right files


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(("code", "dtype"), CODES.items())
def test_hand_made_file_of_each_type(file, pack, code, dtype):
    values = [[0, 1, 2], [100, -3 if dtype != "u1" else 253, 127]]
    letter = {"u1": "B", "i1": "b", ">i2": "h", ">i4": "i", ">f4": "f", ">f8": "d"}[dtype]
    file.write_bytes(pack(header(code, 2, 3) + struct.pack(f">6{letter}", *sum(values, []))))
    array = decode(file)
    assert array.dtype == np.dtype(dtype).newbyteorder("=")
    assert array.dtype.isnative
    assert array.tolist() == values


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape", "sha256"),
    [
        (
            "train-images-idx3-ubyte",
            (60000, 28, 28),
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte",
            (60000,),
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        (
            "t10k-images-idx3-ubyte",
            (10000, 28, 28),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte",
            (10000,),
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ],
)
def test_mnist(mnist_directory, name, shape, sha256):
    array = decode(mnist_directory / f"{name}.gz")
    assert array.shape == shape
    assert array.dtype == np.uint8
    assert hashlib.sha256(encode(array)).hexdigest() == sha256


def test_gzip_of_several_members(file):
    cuts = [0, 3, 3, 11, len(GOOD)]  # one of them empty
    members = [gzip.compress(GOOD[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    file.write_bytes(b"".join(members))
    assert decode(file).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("input_chunk", range(2, 60, 3))
@pytest.mark.parametrize("output_chunk", [1, 4, 100])
def test_chunks_may_end_anywhere(file, monkeypatch, input_chunk, output_chunk):
    monkeypatch.setattr("digitflow.tasks.data.idx.header.INPUT_CHUNK", input_chunk)
    monkeypatch.setattr("digitflow.tasks.data.idx.header.OUTPUT_CHUNK", output_chunk)
    file.write_bytes(gzip.compress(GOOD[:9]) + gzip.compress(GOOD[9:]) + bytes(7))
    assert decode(file).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("padding", [1, 2, 3, 4, 511, 2**16, 2**17 + 5])
@pytest.mark.parametrize("where", ["behind", "between", "both"])
def test_zero_padding_is_no_data(file, padding, where):
    """A tape or a disk image leaves members padded to its block size; gzip reads them, too."""
    between = bytes(padding) if where != "behind" else b""
    behind = bytes(padding) if where != "between" else b""
    members = gzip.compress(GOOD[:9]), gzip.compress(b""), gzip.compress(GOOD[9:])
    file.write_bytes(between.join(members) + behind)
    assert gzip.decompress(file.read_bytes()) == GOOD
    assert decode(file).tolist() == [[0, 1, 2], [3, 4, 5]]
    check_complete(file, "x")


def test_padding_is_passed_over_in_little_memory(file):
    file.write_bytes(gzip.compress(GOOD) + bytes(2**25))
    tracemalloc.start()
    try:
        decode(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    (tmp_path / "a.gz").write_bytes(GOOD)
    (tmp_path / "b").write_bytes(gzip.compress(GOOD))
    assert np.array_equal(decode(tmp_path / "a.gz"), decode(tmp_path / "b"))


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(7,), (0,), (3, 5), (2, 0, 4), (2, 3, 4, 5)])
def test_decodes_into_the_file_that_numpy_would_save(file, tmp_path, monkeypatch, dtype, shape):
    monkeypatch.setattr("digitflow.tasks.data.idx.arrays._BLOCK", 16)
    array = np.arange(math.prod(shape)).astype(dtype).reshape(shape)
    write(file, array)
    mapped = decode(file, to=tmp_path / "x.npy")
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, array)
    assert mapped.dtype == array.dtype
    np.save(tmp_path / "y.npy", array)
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize("shape", [(7, 3, 5), (1, 9, 9), (0, 3, 2)])
def test_transposed_images_are_turned_upright(file, tmp_path, monkeypatch, dtype, shape):
    monkeypatch.setattr(
        "digitflow.tasks.data.idx.arrays._BLOCK", 70
    )  # several images fit, or not even one
    array = np.arange(math.prod(shape), dtype=dtype).reshape(shape)
    write(file, array)
    upright = array.swapaxes(1, 2)
    assert np.array_equal(decode(file, transposed=True), upright)
    mapped = decode(file, transposed=True, to=tmp_path / "x.npy")
    assert np.array_equal(mapped, upright)
    np.save(tmp_path / "y.npy", np.ascontiguousarray(upright))
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()


def test_only_images_can_be_turned(file, tmp_path):
    write(file, np.zeros((2, 3), np.uint8))
    for to in (None, tmp_path / "x.npy"):
        with pytest.raises(ValueError, match="axes don't match array"):
            decode(file, transposed=True, to=to)
    assert list(tmp_path.glob("*.npy")) == []


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: packed + b"x"])
def test_what_is_refused_leaves_no_file(file, tmp_path, damage):
    file.write_bytes(damage(gzip.compress(GOOD)))
    with pytest.raises(IdxError):
        decode(file, to=tmp_path / "x.npy")
    assert not (tmp_path / "x.npy").exists()


# Wrong files


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "expected a header of at least 4 bytes, found 0"),
        (b"\0\0\x08", "expected a header of at least 4 bytes, found 3"),
        (
            b"\x89PNG\r\n",
            "expected an IDX file, which begins with the bytes 00 00, found 89 50",
        ),
        (b"\0\x01\x08\x01", "expected an IDX file, which begins with the bytes 00 00, found 00 01"),
        (
            header(0x0A, 1) + b"x",
            "expected a type code out of 0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E, found 0x0A",
        ),
        (header(0x08), "expected 1 to 64 dimensions, found 0"),
        (header(0x08, *[1] * 65) + b"x", "expected 1 to 64 dimensions, found 65"),
        (header(0x08, 2, 3)[:-1], "expected a header of 12 bytes for 2 dimensions, found 11"),
        (
            GOOD[:-1],
            "expected 6 bytes of data, found 5; the file is not complete, get it again",
        ),
        (
            header(0x0E, 2, 3) + bytes(47),
            "expected 48 bytes of data, found 47; the file is not complete, get it again",
        ),
        (GOOD + b"x", "expected 6 bytes of data for shape (2, 3), found 1 bytes too many"),
        (
            GOOD + bytes(10**6),
            "expected 6 bytes of data for shape (2, 3), found at least 65,536 bytes too many",
        ),
        (
            header(0x08, 2**31, 3) + b"x",
            "expected at most 4,294,967,296 bytes of data, found a header that declares "
            "6,442,450,944 (uint8, shape (2147483648, 3))",
        ),
        (
            header(0x0E, 0, 2**32 - 1),  # no elements, but no such array either
            "expected at most 4,294,967,296 bytes of data, found a header that declares "
            "34,359,738,360 (float64, shape (0, 4294967295))",
        ),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_refusals(file, pack, data, text):
    assert refusal(file, pack(data)) == text


def test_limit_is_the_callers(file):
    assert refusal(file, GOOD, max_bytes=5).startswith("expected at most 5 bytes of data, found")
    file.write_bytes(GOOD)
    assert decode(file, max_bytes=6).shape == (2, 3)


def test_name_in_messages_can_be_given(file):
    file.write_bytes(b"")
    with pytest.raises(IdxError, match="^t10k-labels: expected"):
        decode(file, name="t10k-labels")


def test_missing_file_is_an_os_error(file):
    with pytest.raises(FileNotFoundError):
        decode(file)


def test_damaged_gzip(file):
    packed = gzip.compress(GOOD)
    intact = "expected an intact gzip stream, found "
    assert refusal(file, packed[:-8] + b"????" + packed[-4:]) == (
        f"{intact}incorrect checksum; the file is damaged, get it again"
    )
    assert refusal(file, packed[:-4] + b"????") == (
        f"{intact}incorrect checksum; the file is damaged, get it again"
    )
    for flag in (0x20, 0x40, 0x80):
        assert refusal(file, packed[:3] + bytes([flag]) + packed[4:]) == (
            f"{intact}unknown header flags set; the file is damaged, get it again"
        )
    assert refusal(file, packed[:2] + b"?" + packed[3:]).startswith(intact)
    for cut in range(2, len(packed)):
        assert refusal(file, packed[:cut]) == (
            f"{intact}that it breaks off; the file is not complete, get it again"
        )


@pytest.mark.parametrize("padding", [0, 1, 512, 2**17])
@pytest.mark.parametrize("garbage", [b"\x01", b"\x1f", b"\x1f\0", b"x" * 100_000])
def test_garbage_after_gzip(file, garbage, padding):
    assert refusal(file, gzip.compress(GOOD) + bytes(padding) + garbage) == (
        "expected the end of the file or another gzip member, "
        f"found trailing bytes {garbage[:8].hex(' ')}"
    )


# Hostile files


def zeros(start: bytes, count: int) -> bytes:
    """The gzip file of `start` and `count` zero bytes, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk = bytes(2**20)
    packed = [packer.compress(start)]
    packed += [packer.compress(chunk) for _ in range(count // len(chunk))]
    return b"".join([*packed, packer.flush()])


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (header(0x08, 1000), "found at least 65,536 bytes too many"),
        (header(0x08, 2**32 - 1), "expected 4,294,967,295 bytes of data, found 67,108,864"),
        (header(0x0E, 2**32 - 1), "expected at most 4,294,967,296 bytes of data"),
    ],
)
def test_gzip_bomb_takes_no_memory(file, declared, text):
    bomb = zeros(declared, 2**26)
    file.write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(IdxError) as caught:
            decode(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert text in str(caught.value)
    assert peak < 4 * 2**20


def test_memory_is_the_array_and_a_chunk(file):
    file.write_bytes(zeros(header(0x08, 2**25), 2**25))
    tracemalloc.start()
    try:
        decode(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**25 + 4 * 2**20


@given(data=st.binary(max_size=200), pack=st.sampled_from([bytes, gzip.compress]))
@example(data=header(0x08, *[0] * 64), pack=bytes)
@example(data=header(0x08, *[0] * 63, 2**32 - 1), pack=bytes)
@example(data=header(0x08, 2**32 - 1), pack=gzip.compress)
def test_any_bytes_decode_or_are_refused(tmp_path, data, pack):
    survives(tmp_path / "x", pack(data))


@given(
    code=st.sampled_from(list(CODES)),
    shape=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 4), max_size=5),
    data=st.binary(max_size=300),
    packed=st.booleans(),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=2),
)
def test_any_header_and_any_damage_decode_or_are_refused(
    tmp_path, code, shape, data, packed, flips
):
    whole = header(code, *shape) + data
    damaged = bytearray(gzip.compress(whole) if packed else whole)
    for place, bits in flips:
        damaged[place % len(damaged)] ^= bits
    survives(tmp_path / "x", bytes(damaged))


def survives(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    try:
        array = decode(file)
    except IdxError:
        return
    plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    assert encode(array) == plain


# Writing

ANY_ARRAY = arrays.arrays(
    dtype=st.sampled_from([np.dtype(name) for name in CODES.values()]).map(
        lambda dtype: dtype.newbyteorder("=")
    ),
    shape=arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
)


@given(array=ANY_ARRAY)
def test_round_trip(tmp_path, array):
    (tmp_path / "plain").write_bytes(encode(array))
    write(tmp_path / "packed", array)
    for name in ("plain", "packed"):
        back = decode(tmp_path / name)
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert back.tobytes() == array.tobytes()  # NaNs included


def test_order_in_memory_does_not_matter(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for same in (np.asfortranarray(array), array.astype(">i2"), array.astype("<i2")):
        assert encode(same) == encode(array)
    assert encode(array[:, ::2].transpose(2, 0, 1)) == encode(
        array[:, ::2].transpose(2, 0, 1).copy()
    )


def test_written_file_carries_no_time_and_no_name(tmp_path):
    array = np.arange(100, dtype=np.uint8)
    write(tmp_path / "a", array)
    write(tmp_path / "b", array)
    packed = (tmp_path / "a").read_bytes()
    assert packed == (tmp_path / "b").read_bytes()
    assert packed[:8] == b"\x1f\x8b\x08\0\0\0\0\0"  # no flags: no name; time 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]


def test_blocks_equal_the_whole(tmp_path):
    array = np.arange(60, dtype=np.int32).reshape(10, 6)
    write(tmp_path / "a", array)
    write_blocks(tmp_path / "b", array.shape, array.dtype, iter(np.array_split(array, 3)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([np.zeros((3, 2), np.uint8)], "expected blocks for shape (4, 2), found 3 in all"),
        ([np.zeros((4, 3), np.uint8)], "found uint8 of shape (4, 3)"),
        ([np.zeros((4, 2), np.int8)], "found int8 of shape (4, 2)"),
    ],
)
def test_blocks_that_do_not_fit_leave_no_file(tmp_path, blocks, text):
    with pytest.raises(IdxError) as caught:
        write_blocks(tmp_path / "x", (4, 2), np.dtype(np.uint8), blocks)
    assert text in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros(3, np.int64), "float64 to write as IDX, found int64"),
        (np.zeros(3, np.uint16), "found uint16"),
        (np.zeros(3, bool), "found bool"),
        (np.zeros((), np.uint8), "found shape ()"),
        (np.broadcast_to(np.uint8(0), (2**32,)), "found shape (4294967296,)"),
    ],
)
def test_what_idx_cannot_hold(array, text):
    with pytest.raises(IdxError) as caught:
        encode(array)
    assert text in str(caught.value)


# Pairs

IMAGES = np.zeros((5, 2, 2), np.uint8)
LABELS = np.zeros(5, np.uint8)


def test_images_and_labels_that_belong_together():
    check_pair(IMAGES, LABELS)
    check_pair(np.zeros((5, 4), np.float32), LABELS.astype(np.int64))


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (
            IMAGES,
            LABELS[:4],
            "expected as many labels as images, found 5 images and 4 labels; "
            "check that both files are of the same set",
        ),
        (LABELS, LABELS, "expected images of 2 or more dimensions, found shape (5,)"),
        (
            IMAGES,
            IMAGES,
            "expected labels as integers of shape (n,), found uint8 of shape (5, 2, 2)",
        ),
        (
            IMAGES,
            LABELS.astype(float),
            "expected labels as integers of shape (n,), found float64 of shape (5,)",
        ),
        (IMAGES[:0], LABELS[:0], "expected at least one image, found shape (0, 2, 2)"),
    ],
)
def test_images_and_labels_that_do_not(images, labels, text):
    with pytest.raises(IdxError) as caught:
        check_pair(images, labels, name="the test set")
    assert str(caught.value) == f"the test set: {text}"
