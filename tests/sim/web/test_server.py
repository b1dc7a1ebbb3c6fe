import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pliant_models import digits
from pliant_sim.web.strokes import CANVAS

pytestmark = pytest.mark.slow


def post(address, body):
    request = urllib.request.Request(f"{address}classify", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def enlarged(image):
    grey = Image.fromarray((image[0] * 255 // 16).astype(np.uint8))
    return np.asarray(grey.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)).tobytes()


def test_held_out_digits_are_recognised_with_the_integers_of_the_simulator(address):
    _, split = digits.dataset()
    found = [post(address, enlarged(image)) for image in split.images[:20]]
    assert all(result["equal"] for result in found)
    right = sum(result["digit"] == label
                for result, label in zip(found, split.labels[:20], strict=True))
    assert right >= 18


def test_the_timeline_holds_every_instruction_within_the_cycles(address):
    _, split = digits.dataset()
    result = post(address, enlarged(split.images[0]))
    assert {item["layer"] for item in result["timeline"]} == set(result["layers"])
    assert {item["unit"] for item in result["timeline"]} == {"load", "matrix", "post", "store"}
    assert all(0 <= item["start"] < item["end"] <= result["cycles"] + 64
               for item in result["timeline"])


def test_requests_at_the_same_time_get_their_own_answers(address):
    _, split = digits.dataset()
    bodies = [enlarged(image) for image in split.images[:6]]
    alone = [post(address, body)["logits"] for body in bodies]
    with ThreadPoolExecutor(6) as pool:
        together = [result["logits"] for result in pool.map(lambda b: post(address, b), bodies)]
    assert together == alone


@pytest.mark.parametrize(("body", "message"), [
    (bytes(CANVAS * CANVAS), "nothing is drawn"),
    (b"digit", "found 5"),
])
def test_bad_drawings_are_explained(address, body, message):
    with pytest.raises(urllib.error.HTTPError) as failure:
        post(address, body)
    assert failure.value.code == 400
    assert message in json.load(failure.value)["error"]


def test_huge_requests_are_refused(address):
    with pytest.raises(urllib.error.HTTPError) as failure:
        post(address, bytes(1 << 20))
    assert failure.value.code == 413
