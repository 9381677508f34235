"""Responses of the application to images, and to any other request."""

import asyncio
import struct
import zlib

import pytest
from http_world import BLUE, GREEN, RED, image

PNG = {"content-type": "image/png"}


def test_a_prediction_has_the_class_its_probability_and_the_best(here):
    reply = here().predict(RED)
    assert reply.status == 200
    assert reply.json.keys() == {"label", "probability", "unsure", "nearest", "best"}
    assert reply.json["label"] == "rose" and reply.json["unsure"] is False
    assert [each["label"] for each in reply.json["best"]] == ["rose", "leaf", "NA"]
    assert reply.json["best"][0]["probability"] == reply.json["probability"] > 0.99


def test_the_query_sets_the_threshold_and_adds_every_class(here):
    grey = image("#80b080")
    server = here()
    plain, strict, lax = (server.predict(grey, query) for query in ("", "?threshold=1", "?threshold=0"))
    assert [reply.json["unsure"] for reply in (plain, strict, lax)] == [True, True, False]
    probabilities = server.predict(BLUE, "?every_class=true").json["probabilities"]
    assert list(probabilities) == ["rose", "leaf", "NA"]
    assert probabilities["NA"] > 0.99 and sum(probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["IMAGE/PNG; a=b", "image/svg+xml", "application/octet-stream"])
def test_the_format_is_read_from_the_image_itself(here, kind):
    assert here().predict(GREEN, kind=kind).json["label"] == "leaf"


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json", "text/html", ""])
def test_another_content_type_is_415_with_the_command_to_use(here, kind):
    reply = here().predict(RED, kind=kind)
    assert reply.status == 415
    assert "--data-binary @photo.jpg -H 'Content-Type: image/jpeg'" in reply.error


def claiming(width: int, height: int) -> bytes:
    """A PNG of 67 bytes whose header announces a large image."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(10))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not an image of a known format"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (RED[:-200], "truncated"),
        (GREEN[:400], "truncated"),
        (claiming(8000, 8000), "8000 x 8000 pixels: more than 52 megapixels"),
        (claiming(60000, 60000), "more than 52 megapixels"),
    ],
)
def test_an_unreadable_image_is_400_with_the_reason(here, body, reason):
    reply = here().predict(body, kind="image/jpeg")
    assert reply.status == 400
    assert reason in reply.error


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("?treshold=0.5", "unknown parameter 'treshold'"),
        ("?threshold=1.5", "threshold: "),
        ("?threshold=nan", "threshold: "),
        ("?threshold=high", "threshold: "),
        ("?every_class=perhaps", "every_class: "),
        ("?a%0Ab" + "c" * 500 + "=1", "unknown parameter 'a b"),
    ],
)
def test_a_wrong_query_is_400_with_the_parameter(here, query, error):
    reply = here().predict(RED, query)
    assert reply.status == 400
    assert reply.error.startswith(error)


@pytest.mark.parametrize("path", ["/nowhere", "/predict/", "/../etc/passwd", "/invocations"])
def test_another_path_is_404(here, path):
    reply = here().get(path)
    assert (reply.status, reply.error) == (404, "nothing is served at this path; see /openapi.json")


def test_another_method_is_405_with_the_right_one(here):
    reply = here().get("/predict")
    assert (reply.status, reply.headers["allow"], reply.error) == (
        405,
        "POST",
        "GET is not allowed here; allowed: POST",
    )


def sending(*pieces: bytes, taken: list, then: str = "silence"):
    """A client that sends its body in pieces and then is silent, or hangs up."""
    left = list(pieces)

    async def receive():
        if left:
            taken.append(left.pop(0))
            return {"type": "http.request", "body": taken[-1], "more_body": True}
        if then == "silence":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return receive


def test_a_body_that_is_announced_too_large_is_not_read(here):
    taken: list[bytes] = []
    server = here(body=1000)
    headers = {**PNG, "content-length": "1001"}
    reply = server.run(server.call("POST", "/predict", headers=headers, receive=sending(bytes(1001), taken=taken)))
    assert reply.status == 413 and taken == []
    assert "MB" in reply.error


def test_a_body_of_unknown_size_is_read_up_to_the_limit(here):
    taken: list[bytes] = []
    server = here(body=1000)
    pieces = [bytes(300)] * 100
    headers = {**PNG, "content-length": ""}
    reply = server.run(server.call("POST", "/predict", headers=headers, receive=sending(*pieces, taken=taken)))
    assert reply.status == 413 and len(taken) == 4


def test_a_slow_body_is_408_and_ends_the_connection(here):
    server = here(seconds=0.05)
    reply = server.run(server.call("POST", "/predict", headers=PNG, receive=sending(RED[:50], taken=[])))
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert "more than 0.05 s" in reply.error


def test_all_bodies_together_are_limited_until_their_requests_end(here):
    server = here(bodies=len(RED) + 100)

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


def test_waiting_images_are_scored_together_and_each_client_gets_its_own(here):
    server = here()
    model = server.scorer.model
    contents = [RED, GREEN, BLUE] * 14

    async def crowd():
        model.open.clear()
        first = asyncio.ensure_future(server.call("POST", "/predict", RED, PNG))
        await reached(lambda: model.batches)
        rest = [asyncio.ensure_future(server.call("POST", "/predict", one, PNG)) for one in contents]
        await reached(lambda: len(server.scorer._ready) == len(contents))
        model.open.set()
        return [reply.json["label"] for reply in await asyncio.gather(first, *rest)]

    assert server.run(crowd()) == ["rose", *["rose", "leaf", "NA"] * 14]
    assert model.batches == [1, 32, 10]


def test_more_images_than_may_wait_are_503(here):
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


def test_the_image_of_a_client_that_hangs_up_is_not_scored(here):
    server = here()
    model = server.scorer.model

    async def leave():
        model.open.clear()
        stays = asyncio.ensure_future(server.call("POST", "/predict", GREEN, PNG))
        await reached(lambda: model.batches)
        leaving = asyncio.Event()
        messages = [{"type": "http.request", "body": RED, "more_body": False}]

        async def receive():
            if not messages:
                await leaving.wait()
                return {"type": "http.disconnect"}
            return messages.pop()

        goes = asyncio.ensure_future(server.call("POST", "/predict", headers=PNG, receive=receive))
        await reached(lambda: len(server.scorer._ready) == 1)
        leaving.set()
        gone = await goes
        await reached(lambda: not server.scorer._ready)
        model.open.set()
        return gone.status, (await stays).json["label"]

    assert server.run(leave()) == (0, "leaf")
    assert server.predict(BLUE).json["label"] == "NA"
    assert model.batches == [1, 1]


def test_a_client_that_hangs_up_amid_its_body_leaves_nothing_behind(here):
    server = here(bodies=len(RED) + 20)  # the rest of the first body would not fit beside the second
    receive = sending(RED[:50], taken=[], then="leave")
    assert server.run(server.call("POST", "/predict", headers=PNG, receive=receive)).status == 0
    assert server.predict(RED).status == 200


def test_a_request_that_is_cut_short_by_the_shutdown_is_503(here):
    server = here()

    async def stopped():
        server.scorer.model.open.clear()
        call = asyncio.ensure_future(server.call("POST", "/predict", RED, PNG))
        await reached(lambda: server.scorer.model.batches)
        call.cancel()  # as uvicorn does
        return await call

    reply = server.run(stopped())
    assert (reply.status, reply.error) == (503, "the server is shutting down")


def test_an_error_of_the_server_reveals_nothing_and_the_next_image_is_scored(here):
    server = here()
    server.scorer.model.broken = True
    reply = server.predict(RED)
    assert (reply.status, reply.error) == (500, "internal error")
    server.scorer.model.broken = False
    assert server.predict(RED).status == 200


def test_the_health_check_scores_a_blank_image(here):
    server = here()
    server.scorer.model.broken = True
    assert (server.get("/health").status, server.get("/health").error) == (503, "the model does not work")
    server.scorer.model.broken = False
    assert (server.get("/health").status, server.get("/health").json) == (200, {"status": "ok"})


def test_the_health_check_scores_nothing_while_clients_do(here):
    server = here()
    server.predict(RED)
    assert server.get("/health").status == 200
    assert server.scorer.model.batches == [1]


def test_the_page_of_the_api_names_its_cdn_and_the_description_for_offline_use(here):
    page = here().get("/docs").body.decode()
    assert "openapi.json" in page.partition('<div id="swagger-ui">')[2].partition("</div>")[0]
    assert "loads Swagger UI from cdn.jsdelivr.net" in page


def test_the_description_has_the_raw_body_and_the_one_line_errors(here):
    described = here().get("/openapi.json").json
    assert set(described["paths"]) == {"/predict", "/explain", "/health"}
    predict = described["paths"]["/predict"]["post"]
    assert predict["requestBody"]["content"]["image/*"]["schema"] == {"type": "string", "format": "binary"}
    assert {each["name"] for each in predict["parameters"]} == {"every_class", "threshold"}
    assert "422" not in predict["responses"] and "HTTPValidationError" not in described["components"]["schemas"]
    assert "#/components/schemas/Failure" in str(predict["responses"]["4XX"])
