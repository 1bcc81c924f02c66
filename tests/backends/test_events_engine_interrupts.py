"""Ctrl-C in the middle of a layer that follows its spikes: the process is as before and the next call works."""

from __future__ import annotations

import pytest

from tests.support.processes import run_script

pytest.importorskip("numba", reason="the engine's loops are not tried: Numba is not installed")

INJECT = """
from tacops.backends._cpu import choose, sparse
sparse.STRETCH = 1  # every frame a call
choose.force(sys.argv[1]).__enter__()
want, before, place = layer(), blas(), processors()

def strike(number):
    # whether the call met a line of that number in the engine; there, KeyboardInterrupt
    seen = 0
    def local(frame, event, argument):
        nonlocal seen
        if event in ("line", "return"):
            seen += 1
            if seen == number:
                raise KeyboardInterrupt
        return local
    def begin(frame, event, argument):
        return local if os.path.basename(os.path.dirname(frame.f_code.co_filename)) == "_cpu" else None
    sys.settrace(begin)
    try:
        layer()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False

number = 1
while strike(number):
    assert blas() == before and processors() == place, number
    equal(layer(), want)
    number += 3
print(number)
"""


@pytest.mark.parametrize("way", ["events", "tables"])
def test_an_exception_at_lines_of_the_engine(way: str) -> None:
    """Every third."""
    assert int(run_script(INJECT, way)) > 200


def test_threads_of_the_user_s() -> None:
    """Several threads run layers at once, some by events, some by products."""
    run_script(
        """
        dense = np.ones_like(x)
        wants = [tacops.conv_lif(some, weight, padding=1, beta=0.5) for some in (x, dense)]
        errors = []

        def work(n):
            for _ in range(10):
                try:
                    equal(tacops.conv_lif((x, dense)[n % 2], weight, padding=1, beta=0.5), wants[n % 2])
                except BaseException as error:
                    errors.append(error)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not errors, errors
        """
    )
