import asyncio
import threading

import pytest
from aiohttp import web

from pliant.spec.config import preset
from pliant_sim.web.classifier import DigitClassifier
from pliant_sim.web.server import application


@pytest.fixture(scope="session")
def address():
    """Serve the page of the smallest configuration from a thread; yield its address."""
    loop = asyncio.new_event_loop()

    async def start():
        runner = web.AppRunner(application(DigitClassifier(preset("tiny"))))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
