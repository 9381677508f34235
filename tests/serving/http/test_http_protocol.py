"""MLflow's protocol: every form of a request means the same, and each mistake in one is told."""

import base64
import json
from pathlib import Path

import pytest
from http_world import BLUE, GREEN, RED, ByColour, photo


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


TEXTS = [text(RED), text(GREEN), text(BLUE)]
FORMS = {
    "split": {"dataframe_split": {"columns": ["image"], "index": [7, 7, 9], "data": [[one] for one in TEXTS]}},
    "more columns": {"dataframe_split": {"columns": ["id", "image"], "data": [[1, one] for one in TEXTS]}},
    "records": {"dataframe_records": [{"id": 1, "image": one} for one in TEXTS]},
    "instances": {"instances": TEXTS},
    "named instances": {"instances": [{"image": one} for one in TEXTS]},
    "inputs": {"inputs": {"image": TEXTS}},
    "a list of inputs": {"inputs": TEXTS},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_each_form_is_answered_in_order(here, form):
    reply = here().invoke(form)
    assert reply.status == 200
    assert [row["label"] for row in reply.json["predictions"]] == ["rose", "leaf", "NA"]
    assert reply.json["predictions"][0].keys() == {"label", "probability", "unsure", "best"}


def test_the_parameters_are_those_of_the_model(here):
    server = here()
    form = FORMS["records"]
    strict = server.invoke({**form, "params": {"threshold": 1, "every_class": True}}).json["predictions"]
    own = server.invoke({"inputs": [*TEXTS, text(photo("gray"))], "params": {"threshold": -1.0}}).json["predictions"]
    assert [row["unsure"] for row in strict] == [True] * 3
    assert [row["unsure"] for row in own] == [False, False, False, True]
    assert strict[1]["p(leaf)"] == strict[1]["probability"] and "p(rose)" in strict[1] and "p(leaf)" not in own[1]


def test_no_photos_are_no_answers(here):
    assert here().invoke({"dataframe_records": []}).json == {"predictions": []}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON: "),
        (b"\xff\xfe", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b'{"instances": ["\\ud800"]}', "not JSON: "),
        (b"[]", "a JSON object with one of dataframe_split, "),
        (b"7", "a JSON object with one of dataframe_split, "),
        ({}, "exactly one of dataframe_split, dataframe_records, instances, inputs is wanted, not none"),
        ({"inputs": [], "instances": []}, "exactly one of "),
        ({"dataframe": []}, "unknown key 'dataframe'"),
        ({"a\nb": []}, "unknown key 'a\\nb'"),
        ({"inputs": [], "params": {"treshold": 1}}, "unknown parameter 'treshold'"),
        ({"inputs": [], "params": []}, "params: a JSON object"),
        ({"inputs": [], "params": {"threshold": 2}}, "params.threshold: "),
        ({"inputs": [], "params": {"threshold": None}}, "params.threshold: "),
        ({"inputs": [], "params": {"every_class": "yes"}}, "params.every_class: "),
        ({"dataframe_split": []}, "dataframe_split: "),
        ({"dataframe_split": {"columns": ["photo"], "data": [["x"]]}}, "dataframe_split: there is no column 'image'"),
        ({"dataframe_split": {"columns": ["image"], "data": [["x", "y"]]}}, "dataframe_split: row 0 "),
        ({"dataframe_split": {"columns": "image", "data": "x"}}, "dataframe_split: "),
        ({"dataframe_records": {"image": "x"}}, "dataframe_records: a list"),
        ({"dataframe_records": [{"photo": "x"}]}, "dataframe_records: row 0 has no 'image'"),
        ({"dataframe_records": ["x"]}, "dataframe_records: row 0 has no 'image'"),
        ({"instances": [{"photo": "x"}]}, "instances: row 0 has no 'image'"),
        ({"instances": "x"}, "instances: a list"),
        ({"inputs": [TEXTS[0], 7]}, "image in row 1: base64 text"),
        ({"inputs": [TEXTS[0], [TEXTS[1]]]}, "image in row 1: base64 text"),
        ({"inputs": [TEXTS[0], "not base64!"]}, "image in row 1: text that is not base64"),
        ({"inputs": [TEXTS[0], TEXTS[1] + "!"]}, "image in row 1: text that is not base64"),
        ({"inputs": [TEXTS[0], "ä"]}, "image in row 1: text that is not base64"),
        ({"inputs": [TEXTS[0], ""]}, "image in row 1: empty file"),
        ({"inputs": [TEXTS[0], text(b"hello"), ""]}, "image in row 1: not an image"),
        ({"inputs": [TEXTS[0], "/etc/passwd="]}, "image in row 1: "),
    ],
)
def test_a_mistake_is_one_line(here, content, said):
    reply = here().invoke(content)
    assert reply.status == 400
    assert reply.error.startswith(said)


@pytest.mark.parametrize("number", [65, 10_000])
def test_too_many_photos_are_refused_before_any_is_read(here, number):
    server = here()
    reply = server.invoke({"instances": ["not base64!"] * number})
    assert reply.status == 413 and f"{number:,} photos" in reply.error
    assert server.scorer.model.batches == []


def test_as_many_as_allowed_are_answered(here):
    assert len(here().invoke({"instances": [TEXTS[1]] * 64}).json["predictions"]) == 64


@pytest.mark.parametrize("kind", ["text/csv", "image/jpeg", ""])
def test_another_kind_of_body_is_told_what_to_type(here, kind):
    reply = here().invoke(FORMS["split"], kind)
    assert reply.status == 415 and "application/json" in reply.error


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow's, about an example that nobody needs here
@pytest.mark.parametrize("params", [{}, {"every_class": True, "threshold": 1.0}], ids=["plain", "with parameters"])
def test_the_answer_is_that_of_mlflows_own_server(here, params, tmp_path, monkeypatch):
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    from flowers.model import classifier
    from flowers.serving import servable
    from flowers.tracking import model as logged

    monkeypatch.setattr(classifier, "load", lambda *_: ByColour())
    for name in ("model", "weights"):
        (tmp_path / name).write_text("a stand-in")
    mlflow.pyfunc.save_model(
        path=str(tmp_path / "saved"),
        python_model=str(Path(servable.__file__)),
        artifacts={name: str(tmp_path / name) for name in ("model", "weights")},
        signature=logged._signature(),
        pip_requirements=[],
    )
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    server = here()
    for form in (FORMS["split"], FORMS["records"]):
        asked = {**form, "params": params}
        theirs = scoring_server.invocations(
            json.dumps(asked), "application/json", model, model.metadata.get_input_schema()
        )
        assert server.invoke(asked).json == json.loads(theirs.response)


def test_a_request_of_very_many_values_is_refused_before_they_are_read(here):
    reply = here().invoke(b'{"instances": [' + b"[]," * 20_000 + b"[]]}")
    assert (reply.status, reply.error) == (413, "more than 10,000 values in a request; at most 64 photos are taken")
