"""The web server: one page, and one request that classifies a drawing."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from pliant.spec.isa import Unit
from pliant_sim.closing import Closing
from pliant_sim.web.classifier import DigitClassifier
from pliant_sim.web.strokes import CANVAS, DrawingError, digit_image, parse

_FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js", "/icon.svg": "icon.svg"}

# The page takes nothing from elsewhere, and nothing elsewhere may frame it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

_CLASSIFIER: web.AppKey[DigitClassifier] = web.AppKey("classifier", DigitClassifier)


def application(classifier: DigitClassifier) -> web.Application:
    """Return the web application; it closes `classifier` at its end.

    GET ``/`` is the page. GET ``/about`` tells the configuration. POST ``/classify`` takes a
    drawing, CANVAS * CANVAS grey values, and answers with a
    :class:`pliant_sim.web.classifier.Classification` as JSON, or with 400 and ``{"error": ...}``.
    """
    app = web.Application(client_max_size=4 * CANVAS * CANVAS)
    app[_CLASSIFIER] = classifier
    app.router.add_get("/about", _about)
    app.router.add_post("/classify", _classify)
    for path, name in _FILES.items():
        app.router.add_get(path, _file(Path(__file__).parent / name))

    async def headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)

    async def close(app: web.Application) -> None:
        classifier.close()

    app.on_response_prepare.append(headers)
    app.on_cleanup.append(close)
    return app


class PageServer(Closing):
    """Serves the page from a thread of its own while in use as a context manager.

    Parameters
    ----------
    classifier : DigitClassifier
        Closed at the end.
    host : str
    port : int
        0 for any that is free.

    Attributes
    ----------
    address : str
        Of the page.

    Raises
    ------
    OSError
        The port is taken.
    """

    def __init__(self, classifier: DigitClassifier, *, host: str, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._runner = web.AppRunner(application(classifier))
        try:
            self._loop.run_until_complete(self._start(host, port))
        except BaseException:
            self._loop.run_until_complete(self._runner.cleanup())
            self._loop.close()
            raise
        self.address = f"http://{host}:{self._runner.addresses[0][1]}/"
        self._thread = threading.Thread(target=self._loop.run_forever, name="page")
        self._thread.start()

    async def _start(self, host: str, port: int) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    def close(self) -> None:
        """End the server when requests under way are answered."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def send(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return send


async def _about(request: web.Request) -> web.Response:
    config = request.app[_CLASSIFIER].config
    return web.json_response({
        "config": config.name, "rows": config.rows, "cols": config.cols,
        "clock_mhz": config.board.clock_mhz, "canvas": CANVAS,
        "units": [unit.name.lower() for unit in Unit],
    })


async def _classify(request: web.Request) -> web.Response:
    try:
        image = digit_image(parse(await request.read()))
    except DrawingError as error:
        return web.json_response({"error": str(error)}, status=400)
    classifier = request.app[_CLASSIFIER]
    # The simulation takes milliseconds to seconds; other requests go on meanwhile.
    result = await asyncio.get_running_loop().run_in_executor(None, classifier.classify, image)
    return web.json_response(dataclasses.asdict(result))
