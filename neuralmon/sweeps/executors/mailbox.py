"""Where the messages between a sweep and its workers on other machines lie: a Ray actor on the sweep's machine.

Nothing is looked into here, so nothing of it has to be imported.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

Message = tuple[int, bytes]  # of or for which worker


class Mailbox:
    """Holds messages until somebody takes them."""

    def __init__(self) -> None:
        self._said: list[Message] = []
        self._something = asyncio.Event()
        self._answers: defaultdict[int, asyncio.Queue[bytes]] = defaultdict(asyncio.Queue)

    async def tell(self, worker: int, message: bytes) -> None:
        """Takes what a worker says."""
        self._said.append((worker, message))
        self._something.set()

    async def ask(self, worker: int, message: bytes) -> bytes:
        """Takes what a worker asks and waits for the answer."""
        await self.tell(worker, message)
        return await self._answers[worker].get()

    async def said(self, seconds: float) -> list[Message]:
        """Returns what workers have said, in order; waits for so long at most until there is something."""
        try:
            await asyncio.wait_for(self._something.wait(), seconds)
        except TimeoutError:
            return []
        self._something.clear()
        said, self._said = self._said, []
        return said

    async def answer(self, answers: Sequence[Message]) -> None:
        """Gives workers their answers."""
        for worker, answer in answers:
            self._answers[worker].put_nowait(answer)
