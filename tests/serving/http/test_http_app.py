"""What the server answers to one photo, and to whatever else somebody sends."""

import asyncio
import base64
import json
import struct
import zlib

import pytest
from http_world import BLUE, GREEN, RED, photo


def test_a_photo_is_answered_with_its_class_and_the_best(here):
    reply = here().predict(RED)
    assert reply.status == 200
    assert reply.json.keys() == {"label", "probability", "unsure", "best"}
    assert reply.json["label"] == "rose" and reply.json["unsure"] is False
    assert [each["label"] for each in reply.json["best"]] == ["rose", "leaf", "NA"]
    assert reply.json["best"][0]["probability"] == reply.json["probability"] > 0.99


def test_every_class_and_a_threshold_are_asked_for_in_the_query(here):
    grey = photo("#80b080")
    server = here()
    plain, strict, lax = (server.predict(grey, query) for query in ("", "?threshold=1", "?threshold=0"))
    assert [reply.json["unsure"] for reply in (plain, strict, lax)] == [True, True, False]
    probabilities = server.predict(BLUE, "?every_class=true").json["probabilities"]
    assert list(probabilities) == ["rose", "leaf", "NA"]
    assert probabilities["NA"] > 0.99 and sum(probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["image/jpeg", "IMAGE/PNG; a=b", "image/svg+xml", "application/octet-stream"])
def test_the_photo_itself_says_what_it_is(here, kind):
    assert here().predict(GREEN, kind=kind).json["label"] == "leaf"


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/html", ""]
)
def test_another_kind_of_body_is_told_what_to_type(here, kind):
    reply = here().predict(RED, kind=kind)
    assert reply.status == 415
    assert "--data-binary @photo.jpg -H 'Content-Type: image/jpeg'" in reply.error


def claiming(width: int, height: int) -> bytes:
    """A PNG of 67 bytes that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty body"),
        (b"hello", "not an image of a known format"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image of a known format"),
        (b"<!doctype html><img src=/etc/passwd>", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (RED[:-200], "truncated"),
        (GREEN[:400], "truncated"),
        (claiming(8000, 8000), "8000 x 8000 pixels: more than 52 megapixels"),
        (claiming(60000, 60000), "more than 100 megapixels"),
    ],
)
def test_what_is_no_photo_is_refused_with_the_reason(here, body, reason):
    reply = here().predict(body, kind="image/jpeg")
    assert reply.status == 400
    assert reason in reply.error


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?treshold=0.5", "unknown parameter 'treshold'"),
        ("?threshold=1.5", "threshold: "),
        ("?threshold=nan", "threshold: "),
        ("?threshold=high", "threshold: "),
        ("?every_class=perhaps", "every_class: "),
        ("?a%0Ab" + "c" * 500 + "=1", "unknown parameter 'a b"),
    ],
)
def test_a_mistake_in_the_query_is_one_line(here, query, said):
    reply = here().predict(RED, query)
    assert reply.status == 400
    assert reply.error.startswith(said)


def test_another_place_or_method_is_one_line(here):
    server = here()
    for place in ("/nowhere", "/predict/", "/../etc/passwd", "/redoc"):
        assert (server.get(place).status, server.get(place).error) == (
            404,
            "there is nothing here; /docs says what there is",
        )
    reply = server.get("/predict")
    assert (reply.status, reply.headers["allow"], reply.error) == (405, "POST", "GET is not answered here; use POST")


def sending(*pieces: bytes, taken: list, then: str = "silence"):
    """A client that sends its body in pieces and then is silent, or leaves."""
    left = list(pieces)

    async def receive():
        if left:
            taken.append(left.pop(0))
            return {"type": "http.request", "body": taken[-1], "more_body": True}
        if then == "leave":
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()

    return receive


PNG = {"content-type": "image/png"}


def test_a_body_that_says_it_is_too_large_is_not_read(here):
    taken: list[bytes] = []
    server = here(body=1000)
    headers = {**PNG, "content-length": "1001"}
    reply = server.run(server.call("POST", "/predict", headers=headers, receive=sending(bytes(1001), taken=taken)))
    assert reply.status == 413 and taken == []
    assert "MB in a request" in reply.error


def test_a_body_that_does_not_say_so_is_read_up_to_the_limit(here):
    taken: list[bytes] = []
    server = here(body=1000)
    pieces = [bytes(300)] * 100
    headers = {**PNG, "content-length": ""}
    reply = server.run(server.call("POST", "/predict", headers=headers, receive=sending(*pieces, taken=taken)))
    assert reply.status == 413 and len(taken) == 4


def test_a_body_that_takes_too_long_is_not_waited_for(here):
    server = here(seconds=0.05)
    reply = server.run(server.call("POST", "/predict", headers=PNG, receive=sending(RED[:50], taken=[])))
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert "more than 0.05 s" in reply.error


def test_all_bodies_together_are_limited_and_what_is_answered_no_longer_counts(here):
    server = here(held=len(RED) + 100)

    async def two():
        server.scorer.model.open.clear()
        first = asyncio.ensure_future(server.call("POST", "/predict", RED, PNG))
        await reached(lambda: server.scorer.model.batches)
        second = await server.call("POST", "/predict", RED, PNG)
        server.scorer.model.open.set()
        return await first, second

    first, second = server.run(two())
    assert (first.status, second.status, second.headers["retry-after"]) == (200, 503, "5")
    assert "try again in 5 s" in second.error
    assert server.predict(RED[:-200]).status == 400
    assert server.predict(RED).status == 200


async def reached(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_photos_that_wait_are_computed_together_and_each_gets_its_own(here):
    server = here()
    model = server.scorer.model
    photos = [RED, GREEN, BLUE] * 14

    async def crowd():
        model.open.clear()
        first = asyncio.ensure_future(server.call("POST", "/predict", RED, PNG))
        await reached(lambda: model.batches)
        rest = [asyncio.ensure_future(server.call("POST", "/predict", one, PNG)) for one in photos]
        await reached(lambda: server.scorer._ready.qsize() == len(photos))
        model.open.set()
        return [reply.json["label"] for reply in await asyncio.gather(first, *rest)]

    assert server.run(crowd()) == ["rose", *["rose", "leaf", "NA"] * 14]
    assert model.batches == [1, 32, 10]


def test_more_photos_than_may_wait_are_put_off(here):
    server = here(waiting=3)
    model = server.scorer.model

    async def crowd():
        model.open.clear()
        calls = [asyncio.ensure_future(server.call("POST", "/predict", RED, PNG)) for _ in range(5)]
        await reached(lambda: sum(call.done() for call in calls) == 2)
        model.open.set()
        return await asyncio.gather(*calls)

    replies = server.run(crowd())
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 503, 503]
    assert all(reply.headers["retry-after"] == "5" for reply in replies if reply.status == 503)
    assert server.predict(RED).status == 200


def test_photos_of_a_client_that_hangs_up_are_not_computed(here):
    server = here()
    model = server.scorer.model

    async def leave():
        model.open.clear()
        stays = asyncio.ensure_future(server.call("POST", "/predict", GREEN, PNG))
        await reached(lambda: model.batches)
        leaving = asyncio.Event()
        three = json.dumps({"instances": [base64.b64encode(RED).decode()] * 3}).encode()
        messages = [{"type": "http.request", "body": three, "more_body": False}]

        async def receive():
            if not messages:
                await leaving.wait()
                return {"type": "http.disconnect"}
            return messages.pop()

        headers = {"content-type": "application/json", "content-length": str(len(three))}
        goes = asyncio.ensure_future(server.call("POST", "/invocations", headers=headers, receive=receive))
        await reached(lambda: server.scorer._ready.qsize() == 3)
        leaving.set()
        gone = await goes
        model.open.set()
        return gone.status, (await stays).json["label"]

    assert server.run(leave()) == (499, "leaf")
    assert server.predict(BLUE).json["label"] == "NA"
    assert model.batches == [1, 1]


def test_a_client_that_leaves_amid_its_body_harms_nobody(here):
    server = here(held=len(RED) + 20)  # what the client left behind would not fit beside the next photo
    receive = sending(RED[:50], taken=[], then="leave")
    assert server.run(server.call("POST", "/predict", headers=PNG, receive=receive)).status == 499
    assert server.predict(RED).status == 200


def test_a_mistake_of_the_servers_tells_nothing_of_it_and_the_next_photo_is_answered(here):
    server = here()
    server.scorer.model.broken = True
    reply = server.predict(RED)
    assert (reply.status, reply.error) == (500, "internal error")
    server.scorer.model.broken = False
    assert server.predict(RED).status == 200


@pytest.mark.parametrize("place", ["/ping", "/health"])
def test_ping_asks_the_model(here, place):
    server = here()
    server.scorer.model.broken = True
    assert (server.get(place).status, server.get(place).error) == (503, "the model does not answer")
    server.scorer.model.broken = False
    assert (server.get(place).status, server.get(place).body) == (200, b"\n")


def test_ping_does_not_ask_again_while_photos_are_answered(here):
    server = here()
    server.predict(RED)
    assert server.get("/ping").status == 200
    assert server.scorer.model.batches == [1]


def test_version_is_that_of_mlflow(here):
    from importlib.metadata import version

    assert here().get("/version").body.decode() == version("mlflow")


def test_the_page_shows_each_call_and_needs_no_other_server(here):
    page = here().get("/docs").body.decode()
    for shown in ("POST /predict", "POST /invocations", "GET /ping", "threshold", "dataframe_split", "truncated"):
        assert shown in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_the_description_has_the_raw_body_the_forms_and_the_one_line_errors(here):
    described = here().get("/openapi.json").json
    predict, invocations = described["paths"]["/predict"]["post"], described["paths"]["/invocations"]["post"]
    assert predict["requestBody"]["content"]["image/*"]["schema"] == {"type": "string", "format": "binary"}
    assert {each["name"] for each in predict["parameters"]} == {"every_class", "threshold"}
    assert "422" not in predict["responses"] and "HTTPValidationError" not in described["components"]["schemas"]
    assert "#/components/schemas/Failure" in str(predict["responses"]["415"])
    forms = invocations["requestBody"]["content"]["application/json"]
    assert set(forms["examples"]) == {"dataframe_split", "dataframe_records", "instances", "inputs"}
