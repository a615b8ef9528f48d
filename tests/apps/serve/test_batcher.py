import asyncio

import pytest

from frcnn.apps.serve.batcher import Batcher, Busy
from frcnn.apps.serve.metrics import Metrics
from frcnn.data.faults import ImageError
from frcnn.errors import UserError
from serving import Sizes, picture

WIDE, HIGH = picture(32, 48), picture(48, 32)


def detect(detector, *requests, batch=8, queue=64):
    """What requests that come together get; the network is held until all have come."""

    async def run():
        async with Batcher(detector, batch, queue, Metrics()) as batcher:
            detector.free.clear()
            tasks = [asyncio.create_task(batcher.detect(each)) for each in requests]
            while not (detector.batches or all(task.done() for task in tasks)):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # the others are decoded
            detector.free.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(run())


def sizes_of(found):
    return [tuple(each.boxes[0, 2:].tolist()) for each in found]


def test_requests_that_come_together_share_batches_of_one_canvas():
    detector = Sizes()
    found = detect(detector, *[[WIDE]] * 5, *[[HIGH]] * 3)
    assert [sizes_of(each) for each in found] == [[(48.0, 32.0)]] * 5 + [[(32.0, 48.0)]] * 3
    # All that waited, by canvas, in numbers that are powers of two.
    assert len(detector.batches) < 8
    assert sum(shape[0] for shape in detector.batches if shape[1:] == (32, 48)) == 5
    assert sum(shape[0] for shape in detector.batches if shape[1:] == (48, 32)) == 3
    assert all(shape[0] in (1, 2, 4, 8) for shape in detector.batches)


def test_batches_are_no_larger_than_asked():
    detector = Sizes()
    detect(detector, *[[WIDE]] * 9, batch=3)
    assert max(shape[0] for shape in detector.batches) == 3
    assert sum(shape[0] for shape in detector.batches) == 9


def test_a_detector_of_a_fixed_batch_keeps_to_it():
    detector = Sizes(fixed=2)
    found = detect(detector, *[[WIDE]] * 5)
    assert sizes_of(each[0] for each in found) == [(48.0, 32.0)] * 5
    assert {shape[0] for shape in detector.batches} == {2}


def test_pictures_of_one_request_keep_their_order():
    detector = Sizes()
    (found,) = detect(detector, [WIDE, HIGH, WIDE, HIGH])
    assert sizes_of(found) == [(48.0, 32.0), (32.0, 48.0)] * 2


def test_one_that_cannot_be_read_harms_no_other():
    broken, sound = detect(Sizes(), [WIDE, b"nonsense", WIDE], [WIDE])
    assert sizes_of(sound) == [(48.0, 32.0)] and sizes_of([broken[0], broken[2]])
    assert isinstance(broken[1], ImageError) and "is not a JPEG" in broken[1].problem


def test_more_than_may_wait_are_refused():
    first, second = detect(Sizes(), [WIDE] * 3, [WIDE] * 2, queue=4)
    assert len(first) == 3 and isinstance(second, Busy)


def test_places_are_free_again():
    async def run():
        async with Batcher(Sizes(), 8, 2, Metrics()) as batcher:
            for _ in range(3):
                assert len(await batcher.detect([WIDE, b"nonsense"])) == 2
            with pytest.raises(Busy):
                await batcher.detect([WIDE] * 3)

    asyncio.run(run())


async def held(batcher, *requests):
    """Requests as tasks, the first picture in the network, which is held, the others decoded."""
    batcher.detector.free.clear()
    tasks = []
    for each in requests:
        tasks.append(asyncio.create_task(batcher.detect(each)))
        while not batcher.detector.batches:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    return tasks


def test_pictures_whose_askers_have_gone_do_not_reach_the_network():
    detector, metrics = Sizes(), Metrics()

    async def run():
        async with Batcher(detector, 1, 64, metrics) as batcher:
            first, gone, last = await held(batcher, [WIDE], [WIDE] * 20, [HIGH])
            gone.cancel()
            await asyncio.wait([gone])
            assert "frcnn_pictures_waiting 2.0" in metrics.text().decode()
            detector.free.set()
            return [sizes_of(each) for each in await asyncio.gather(first, last)]

    assert asyncio.run(run()) == [[(48.0, 32.0)], [(32.0, 48.0)]]
    assert [shape[1:] for shape in detector.batches] == [(32, 48), (48, 32)]
    assert "frcnn_pictures_total 2.0" in metrics.text().decode()
    assert "frcnn_pictures_waiting 0.0" in metrics.text().decode()


def test_when_all_have_gone_the_next_is_answered():
    async def run():
        async with Batcher(Sizes(), 8, 64, Metrics()) as batcher:
            tasks = await held(batcher, [WIDE], [WIDE], [HIGH])
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            batcher.detector.free.set()
            return await asyncio.wait_for(batcher.detect([HIGH]), 20)

    assert sizes_of(asyncio.run(run())) == [(32.0, 48.0)]


def test_at_the_end_no_batch_is_started_that_would_not_be_done():
    detector = Sizes()

    async def run():
        async with Batcher(detector, 1, 64, Metrics()) as batcher:
            tasks = await held(batcher, [WIDE], [WIDE] * 9, [HIGH])
            batcher.end(0.2)  # less than the first has taken
            detector.free.set()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            with pytest.raises(Busy, match="The server ends"):
                await batcher.detect([WIDE])
            return found

    first, *others = asyncio.run(run())
    assert sizes_of(first) == [(48.0, 32.0)] and len(detector.batches) == 1
    assert all(isinstance(each, Busy) for each in others)


def test_a_fault_of_the_network_reaches_who_asked_and_the_next_are_answered():
    class Failing(Sizes):
        def infer(self, images, sizes):
            if len(self.batches) == 0:
                self.batches.append(images.shape[:3])
                raise UserError("It has burnt down.")
            return super().infer(images, sizes)

    async def run():
        async with Batcher(Failing(), 8, 8, Metrics()) as batcher:
            with pytest.raises(UserError, match="burnt down"):
                await batcher.detect([WIDE])
            assert sizes_of(await batcher.detect([WIDE])) == [(48.0, 32.0)]

    asyncio.run(run())


def test_few_decoded_pictures_are_held():
    """Sixty wait, but the memory is that of four batches."""

    class Counting(Sizes):
        prepared = 0

        def prepare(self, image):
            self.prepared += 1
            return super().prepare(image)

    detector = Counting()

    async def run():
        async with Batcher(detector, 2, 64, Metrics()) as batcher:
            detector.free.clear()
            task = asyncio.create_task(batcher.detect([WIDE] * 60))
            await asyncio.sleep(0.5)
            assert detector.prepared == 8
            detector.free.set()
            assert len(await task) == 60

    asyncio.run(run())


def test_a_detector_that_gives_too_few_results_is_an_error_of_those_who_asked():
    class Short(Sizes):
        def detect_prepared(self, pictures, batch):
            return super().detect_prepared(pictures, batch)[: 0 if short else None]

    async def run():
        nonlocal short
        async with Batcher(Short(), 8, 8, Metrics()) as batcher:
            with pytest.raises(ValueError, match="zip"):
                await asyncio.wait_for(batcher.detect([WIDE]), 60)
            short = False
            return await asyncio.wait_for(batcher.detect([WIDE]), 60)

    short = True
    assert sizes_of(asyncio.run(run())) == [(48.0, 32.0)]
