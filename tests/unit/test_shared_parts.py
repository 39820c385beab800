"""What is read once for all who look: how much of it is kept."""

from redis_scheduler.ui.shared import KEPT, KEPT_BYTES, Shared


async def test_parts_are_kept_by_their_number_and_their_bytes() -> None:
    made: list[int] = []

    def shared_of(size: int) -> Shared[bytes]:
        made.clear()
        return Shared(size=lambda _: size)

    async def look(shared: Shared[bytes], number: int) -> None:
        async def make() -> bytes:
            made.append(number)
            return b"part"

        await shared.get(number, 600, make)

    for size, kept in ((1, KEPT), (KEPT_BYTES // 4, 4), (KEPT_BYTES * 2, 1)):
        shared = shared_of(size)
        for number in range(KEPT + 10):
            await look(shared, number)
        made.clear()
        newest = KEPT + 9
        for number in range(newest, newest - kept, -1):
            await look(shared, number)
        assert made == [], size
        await look(shared, newest - kept)
        assert made == [newest - kept], size
