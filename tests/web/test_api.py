"""The API answers as the original did, says more in version 1, and turns what is wrong into JSON with its status."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image

from mmgcs.tables import READERS
from mmgcs.web import Settings, create_app

PLOT = "Two detectives hunt a killer through the city"


def _file(content: bytes, name: str = "poster.jpg") -> tuple[io.BytesIO, str]:
    return io.BytesIO(content), name


@pytest.mark.parametrize("key", ["plot", "text"])
def test_predict_answers_with_three_genres_as_the_original_did(client: FlaskClient, key: str) -> None:
    answer = client.post("/predict", json={key: PLOT})
    assert answer.status_code == 200
    assert answer.json["genres"][:2] == ["Crime", "Thriller"]
    assert len(answer.json["genres"]) == 3


def test_predict_image_answers_with_three_genres_as_the_original_did(client: FlaskClient, poster: bytes) -> None:
    answer = client.post("/predict_image", data={"poster": _file(poster)})
    assert answer.status_code == 200
    assert len(answer.json["genres"]) == 3


@pytest.mark.parametrize("value", [{}, {"plot": ""}, {"plot": "  "}, {"plot": 3}, [], "text", 5, {"plot": None}])
def test_predict_without_a_plot_is_400(client: FlaskClient, value: object) -> None:
    answer = client.post("/predict", json=value)
    assert answer.status_code == 400
    assert "no plot" in answer.json["error"]


def test_predict_image_without_a_poster_or_with_no_picture_is_400(client: FlaskClient) -> None:
    for data in ({}, {"poster": _file(b"")}, {"poster": "text"}, {"poster": _file(b"<svg/>", "a.svg")}):
        answer = client.post("/predict_image", data=data, content_type="multipart/form-data")
        assert answer.status_code == 400
        assert answer.json["error"]


def test_json_and_a_form_give_the_same_prediction(client: FlaskClient, poster: bytes) -> None:
    as_json = client.post("/api/v1/predict", json={"plot": PLOT, "poster": base64.b64encode(poster).decode()})
    as_form = client.post("/api/v1/predict", data={"plot": PLOT, "poster": _file(poster)})
    assert as_json.status_code == 200
    assert as_json.json == as_form.json
    assert as_json.json["inputs"] == ["plot", "poster"]
    assert as_json.json["abstained"] is not as_json.json["sure"]


def test_an_explanation_names_words_regions_and_inputs(client: FlaskClient, poster: bytes) -> None:
    data = {"plot": PLOT, "poster": _file(poster), "explain": "true", "genres": "Crime"}
    explanation = client.post("/api/v1/predict", data=data).json["explanation"]
    strongest = max(explanation["spans"], key=lambda span: span["drops"]["Crime"])
    assert explanation["text"][strongest["start"] : strongest["end"]] in ("detectives", "killer")
    assert set(explanation["inputs"]["Crime"]) == {"plot", "poster"}
    assert len(explanation["regions"]["Crime"]) == 5


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b'{"plot": NaN}', "application/json", 400),
        (b'{"plot": "a", "plto": "b"}', "application/json", 422),
        (b'{"plot": "\\ud800"}', "application/json", 422),
        (b'{"plot": 7}', "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{}", "application/json", 422),
        (b'{"poster": "not base64!"}', "application/json", 422),
        (b'{"poster": "AAAA"}', "application/json", 422),
        (b'{"plot": "a", "genres": ["Nonsense"], "explain": true}', "application/json", 422),
        (b"plot=a", "text/plain", 415),
        (b"plot", "", 415),
        (b"--x\r\n", "multipart/form-data", 422),
    ],
)
def test_a_wrong_request_gets_its_status_and_one_line(
    client: FlaskClient, content: bytes, kind: str, status: int
) -> None:
    answer = client.post("/api/v1/predict", data=content, content_type=kind)
    assert answer.status_code == status
    assert set(answer.json) == {"error"}
    assert "\n" not in answer.json["error"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "predict",
            {"plto": "a"},
            "plto: there is no such key; did you mean 'plot'? known: plot, title, poster, explain, genres",
        ),
        ("predict", {"plot": 7}, "plot: must be text, not 7"),
        ("predict", {"plot": "a", "explain": "perhaps"}, 'explain: must be true or false, not "perhaps"'),
        ("predict", {"title": "a" * 501}, "title: must have at most 500 characters"),
        ("predict", [], "the body must be an object of keys and values"),
        ("batch", [{"plot": "a"}], "the body must be an object of keys and values"),
        ("batch", {"films": []}, "films: must have at least 1 item"),
        ("batch", {}, "films: is missing"),
        ("batch", {"films": [{"id": 1, "plot": "a"}]}, "films.0.id: must be text, not 1"),
        (
            "batch",
            {"films": [{"plott": "a"}]},
            "films.0.plott: there is no such key; did you mean 'plot'? known: plot, title, poster, id",
        ),
    ],
)
def test_a_wrong_request_is_told_in_plain_words(client: FlaskClient, path: str, value: object, message: str) -> None:
    assert client.post(f"/api/v1/{path}", json=value).json == {"error": message}


@pytest.mark.parametrize(
    "content", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"<!doctype html>", b"x"]
)
def test_what_is_no_picture_is_422(client: FlaskClient, content: bytes) -> None:
    answer = client.post("/api/v1/predict", data={"poster": _file(content)})
    assert answer.status_code == 422
    assert "not a picture" in answer.json["error"]


def test_limits_on_body_poster_pixels_plot_and_batch_hold(tiny_bundle: Path, poster: bytes) -> None:
    limits = Settings(max_body=20_000, max_poster=len(poster), max_pixels=60_000, max_plot=100, max_batch=2)
    client = create_app(tiny_bundle, limits).test_client()
    large = io.BytesIO()
    Image.new("L", (300, 300)).save(large, "PNG")
    assert client.post("/api/v1/predict", data={"poster": _file(poster)}).status_code == 200
    assert client.post("/api/v1/predict", data={"poster": _file(poster + b"\0")}).status_code == 413
    assert client.post("/api/v1/predict", data={"poster": _file(large.getvalue())}).status_code == 413
    assert client.post("/api/v1/predict", data={"poster": _file(bytes(30_000))}).status_code == 413
    assert client.post("/api/v1/predict", json={"plot": "a" * 101}).status_code == 422
    assert client.post("/api/v1/predict", json={"plot": "a" * 30_000}).status_code == 413
    assert client.post("/api/v1/batch", json={"films": [{"plot": "a"}] * 3}).status_code == 422


def test_a_decompression_bomb_is_refused_from_its_header(client: FlaskClient) -> None:
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    answer = client.post("/api/v1/predict", data={"poster": _file(bomb.getvalue())})
    assert answer.status_code == 413


def test_many_parts_are_refused(client: FlaskClient) -> None:
    answer = client.post("/api/v1/predict", data={f"f{i}": "x" for i in range(100)}, content_type="multipart/form-data")
    assert answer.status_code == 413


def test_the_page_offers_and_the_api_takes_every_format_that_is_read(client: FlaskClient) -> None:
    assert f'accept="{",".join(READERS)}"' in client.get("/tables").text
    answer = client.post("/api/v1/batch", data={"file": _file(b"id\tplot\n1\ta ghost\n", "films.TAB")})
    assert answer.status_code == 202
    answer = client.post("/api/v1/batch", data={"file": _file(b"PK", "films.xlsx")})
    assert answer.status_code == 415 and ".tab" in answer.json["error"]


def test_a_batch_answers_each_film_in_order_and_no_bad_film_stops_it(client: FlaskClient) -> None:
    films = [{"id": "a", "plot": PLOT}, {"id": "b"}, {"id": "c", "poster": "?"}, {"plot": "A haunted village"}]
    answer = client.post("/api/v1/batch", json={"films": films}).json["predictions"]
    assert [film["id"] for film in answer] == ["a", "b", "c", None]
    assert [film["error"] is None for film in answer] == [True, False, False, True]
    assert answer[3]["prediction"]["genres"] == ["Horror"]


def test_an_unknown_address_or_method_is_json(client: FlaskClient) -> None:
    assert "error" in client.get("/nowhere").json
    answer = client.get("/api/v1/predict")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_a_key_is_asked_for_where_there_is_one(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle, Settings(api_key="secret")).test_client()
    assert client.post("/predict", json={"plot": PLOT}).status_code == 401
    assert client.post("/predict", json={"plot": PLOT}, headers={"Authorization": "Bearer other"}).status_code == 401
    for headers in ({"Authorization": "Bearer secret"}, {"X-API-Key": "secret"}):
        assert client.post("/predict", json={"plot": PLOT}, headers=headers).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_more_requests_than_the_rate_are_429_with_a_time_to_wait(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle, Settings(rate=0.01, burst=2)).test_client()
    answers = [client.post("/predict", json={"plot": PLOT}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["Retry-After"]) > 1


def test_metrics_count_requests_predictions_and_abstentions(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle, Settings()).test_client()
    client.post("/predict", json={"plot": PLOT})
    client.post("/predict", json={"plot": "of the and"})
    page = client.get("/metrics").text
    assert 'mmgcs_requests_total{method="POST",route="/predict",status="200"} 2.0' in page
    assert 'mmgcs_predictions_total{inputs="plot"} 2.0' in page
    assert "mmgcs_abstentions_total{" in page
    assert "mmgcs_requests_in_flight 1.0" in page
    assert 'mmgcs_request_seconds_count{route="/predict"} 2.0' in page
    assert "mmgcs_batch_films_count 3.0" in page  # the first is the start's own
    abstained = re.findall(r'mmgcs_abstentions_total\{genre="(\w+)"\} (\S+)', page)
    assert [float(count) for _, count in abstained] == [1.0]
    assert {genre for genre, _ in abstained} <= set(client.get("/api/v1/model").json["genres"])


def test_the_log_has_a_request_id_and_nothing_that_a_user_wrote(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    from mmgcs.web.observing import JsonLines

    with caplog.at_level("INFO", "mmgcs.web"):
        client.post("/predict", json={"plot": "sesame"}, headers={"X-Request-ID": "abc-1"})
        client.post("/sesame%0Aline", headers={"X-Request-ID": "evil id"})
    lines = [JsonLines().format(record) for record in caplog.records]
    assert [json.loads(line)["request_id"] == "abc-1" for line in lines] == [True, False]
    assert not any("sesame" in line or "evil" in line or "\n" in line for line in lines)


def test_of_what_the_server_itself_logs_only_the_pattern_and_the_place_are_kept() -> None:
    from mmgcs.web.observing import JsonLines

    def line(name: str, message: str, *values: object, error: BaseException | None = None) -> str:
        trace = None if error is None else (type(error), error, error.__traceback__)
        return JsonLines().format(logging.LogRecord(name, logging.ERROR, "channel.py", 7, message, values, trace))

    try:
        raise ValueError("sesame")
    except ValueError as error:
        kept = [
            line("waitress", "Exception while serving /sesame", error=error),
            line("gunicorn.error", "Invalid request from ip=%s: %s", "sesame", error),
            line("gunicorn.error", "Worker failed", error=error),
        ]
    assert not any("sesame" in text for text in kept)
    assert json.loads(kept[0])["kind"] == "ValueError"
    assert json.loads(kept[0])["where"].startswith("test_api.py:")
    assert json.loads(kept[1])["message"] == "Invalid request from ip=%s: %s"
    assert json.loads(kept[2])["from"] == "channel.py:7"


def test_every_answer_forbids_scripts_from_elsewhere(client: FlaskClient) -> None:
    for path in ("/", "/nowhere", "/api/v1/model"):
        policy = client.get(path).headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy


def test_the_description_names_every_address_of_the_api(client: FlaskClient) -> None:
    described = set(client.get("/openapi.json").json["paths"])
    rules = {rule.rule.replace("batch/<name>", "batch/{id}") for rule in client.application.url_map.iter_rules()}
    served = {re.sub("<([a-z]+)>", r"{\1}", rule) for rule in rules}
    pages = {"/", "/tables", "/model", "/scores", "/data", "/api", "/about", "/samples.csv", "/openapi.json"}
    assert {rule for rule in served - pages if not rule.startswith(("/static", "/samples/"))} == described
