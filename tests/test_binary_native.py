"""The kernels and the executor of native/ against numpy, on every code path of this machine, NEON's by emulation."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from _edgebin import counts, run
from _edgebin_cases import Builder, cases, everything, picture, random_words, write_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepose.runtimes import _edgebin

ROOT = Path(__file__).parents[1]
try:
    PATHS = _edgebin.paths()
except ValueError as error:
    pytest.skip(str(error), allow_module_level=True)


def words(signs):
    """Bits (..., c) -> words, written apart from the library's own way."""
    c = signs.shape[-1]
    padded = np.zeros((*signs.shape[:-1], -(-c // 32) * 32), np.uint64)
    padded[..., :c] = signs > 0
    bits = padded.reshape(*signs.shape[:-1], -1, 32) << np.arange(32, dtype=np.uint64)
    return bits.sum(-1).astype(np.uint32)


SIDE, CHANNELS = st.integers(1, 15), st.one_of(st.integers(1, 70), st.integers(1, 512))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    SIDE, SIDE, CHANNELS, st.one_of(st.integers(1, 40), st.integers(1, 140)), st.sampled_from([1, 3, 5]),
    st.integers(1, 2), st.integers(1, 2), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_counts_are_exact_on_every_path(h, w, c, out, kernel, stride, dilation, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((h, w, c)).astype(np.float32)
    if seed % 5 == 0:
        x = np.full_like(x, -1 + 2 * (seed % 2))  # the largest and smallest sums that there are
    weights = random_words(rng, out, kernel, c)
    if seed % 5 == 0:
        weights[:] = 0
    elif c % 32:
        weights[..., -1] &= (1 << c % 32) - 1
    expected = counts(x, np.zeros(c), weights, kernel, stride, dilation)
    for path in PATHS:
        found = _edgebin.count(
            path, words(np.where(x >= 0, 1, -1)), c, weights.reshape(out, kernel, kernel, -1), stride, dilation
        )
        assert (found == expected).all(), path


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(2, 50), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_every_operation_gives_the_same_floats_on_every_path(c, h, w, seed):
    packed, image = everything(seed, c), picture(8 * h, 8 * w, seed)
    expected = run(packed, image)
    table, data = packed.data()
    for path in PATHS:
        for threads, apart in ((1, True), (3, True), (2, False)):
            net = _edgebin.Net(packed.program(), table, data, (8 * h, 8 * w), threads, path, apart)
            assert net.path == path
            for _ in range(2):  # a second run finds the maps as the first left them
                for found, wanted in zip(net.run(image), expected, strict=True):
                    np.testing.assert_array_equal(found, wanted, err_msg=path)


@pytest.mark.parametrize("name", cases())
def test_cases(name):
    packed, size = cases()[name]
    table, data = packed.data()
    expected = run(packed, picture(*size))
    found = [_edgebin.Net(packed.program(), table, data, size, 2, p).run(picture(*size)) for p in PATHS]
    for maps in found:
        for a, b, same in zip(maps, expected, found[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # means of all pixels: numpy adds in another order
            np.testing.assert_array_equal(a, same)


def test_many_images_from_many_threads():
    """One network, called from several threads: runs do not mix."""
    from concurrent.futures import ThreadPoolExecutor

    packed, size = everything(1, 32), (24, 16)
    net = _edgebin.Net(packed.program(), *packed.data(), size, 2)
    images = [picture(*size, seed) for seed in range(12)]
    expected = [net.run(image)[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(lambda i: net.run(i)[0], images * 5), expected * 5, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ops: ops[1].update(channels=8), "has .* items, not"),
        (lambda ops: ops[1].update({"in": 5}), "an earlier value"),
        (lambda ops: ops[1].update(kernel=2), "kernel"),
        (lambda ops: ops[1].update(weights=99), "no array 99"),
        (lambda ops: ops[3].update(add=1), "another shape"),
        (lambda ops: ops.pop(), "output"),
        (lambda ops: ops.insert(0, dict(ops[-1])), "an earlier value|first"),
    ],
)
def test_programs_that_make_no_sense(change, message):
    b = Builder(0, 3)
    x = b.real(0, 16, stride=2)
    y = b.binary([(x, 16, 3, 1, 1)], add=x)
    packed = b.output(b.binary([(y, 16, 3, 2, 1)]))
    change(packed.ops)
    with pytest.raises(ValueError, match=message) as caught:
        _edgebin.Net(packed.program(), *packed.data(), (16, 16))
    assert "\n" not in str(caught.value)


def test_an_unknown_path_is_answered_with_the_known_ones():
    packed = everything()
    with pytest.raises(ValueError, match="sse9.*portable"):
        _edgebin.Net(packed.program(), *packed.data(), (16, 16), path="sse9")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_changed_programs_are_refused_or_run(data):
    """Nothing that the numbers of a program can be makes the library fail otherwise than with an error."""
    packed = everything(4, 16)
    code, (table, blob) = packed.program(), packed.data()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(code) - 1))
        code[at] = data.draw(st.one_of(st.integers(-2, 40), st.sampled_from([2**31 - 1, -(2**31), 4096, 65536])))
    if code[0] != 0 or not 0 < code[1] < 65:
        return
    try:
        net = _edgebin.Net(code, table, blob, (16, 16), path=data.draw(st.sampled_from(PATHS)))
    except ValueError:
        return
    if net.memory < 2**26:
        net.run(np.ones((net.channels, 16, 16), np.float32))


@pytest.mark.slow
def test_neon_by_emulation(tmp_path):
    """The same floats on an emulated ARM processor."""
    compiler, emulator = (shutil.which(name) for name in ("aarch64-linux-gnu-g++", "qemu-aarch64"))
    if not compiler or not emulator:
        pytest.skip("needs aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user)")
    names = ("edgebin", "graph", "plan", "net", "paths", "portable", "neon", "tools/run")
    sources = [str(ROOT / "native" / f"{name}.cpp") for name in names]
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-static", "-pthread"]
    subprocess.run([compiler, *flags, *sources, "-o", str(tmp_path / "run")], check=True, timeout=600)
    for name, (packed, size) in cases().items():
        image = picture(*size)
        write_case(tmp_path / "case", packed, image)
        wanted = _edgebin.Net(packed.program(), *packed.data(), size).run(image)
        for path in ("neon", "portable"):
            subprocess.run([emulator, "run", "case", path, "out"], cwd=tmp_path, check=True, timeout=300)
            found = np.fromfile(tmp_path / "out", np.float32)
            gate = wanted[3].size if name == "narrow" else 0  # exp of another C library
            flat = np.concatenate([m.ravel() for m in wanted])
            np.testing.assert_array_equal(
                found[: found.size - gate], flat[: flat.size - gate], err_msg=f"{name} {path}"
            )
            np.testing.assert_allclose(found, flat, rtol=1e-5, atol=1e-6)


def test_the_library_is_loaded_from_where_it_is_said_to_be(tmp_path):
    code = "from edgepose.runtimes import _edgebin; _edgebin.library()"
    env = {"EDGEPOSE_EDGEBIN": str(tmp_path / "none.so"), "PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "ValueError: the runtime binary needs its library" in ran.stderr and "pip install" in ran.stderr
    (tmp_path / "none.so").write_bytes(b"not a library")
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "ValueError: cannot use" in ran.stderr
