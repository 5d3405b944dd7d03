"""The API keeps the original's contract, says more in version 1, and answers errors as JSON with the right status."""

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
from mmgcs.web.logs import JsonLines

PLOT = "Two detectives hunt a killer through the city"


def _file(content: bytes, name: str = "poster.jpg") -> tuple[io.BytesIO, str]:
    return io.BytesIO(content), name


@pytest.mark.parametrize("key", ["plot", "text"])
def test_predict_returns_three_genres_like_the_original(client: FlaskClient, key: str) -> None:
    for answer in (client.post("/predict", json={key: PLOT}), client.post("/predict", data={key: PLOT})):
        assert answer.status_code == 200
        assert answer.json["genres"][:2] == ["Crime", "Thriller"]
        assert len(answer.json["genres"]) == 3


def test_predict_image_returns_three_genres_like_the_original(client: FlaskClient, poster: bytes) -> None:
    answer = client.post("/predict_image", data={"poster": _file(poster)})
    assert answer.status_code == 200
    assert len(answer.json["genres"]) == 3


def test_requests_without_a_plot_or_an_image_to_the_originals_endpoints_are_400(client: FlaskClient) -> None:
    answers = [client.post("/predict"), client.post("/predict_image")]
    values = ({}, {"plot": ""}, {"plot": "  "}, {"plot": 3}, [], "text", 5, {"plot": None})
    answers += [client.post("/predict", json=value) for value in values]
    forms = ({}, {"poster": _file(b"")}, {"poster": "text"}, {"poster": _file(b"<svg/>", "a.svg")})
    answers += [client.post("/predict_image", data=form, content_type="multipart/form-data") for form in forms]
    assert {answer.status_code for answer in answers} == {400}
    assert all(list(answer.json) == ["error"] for answer in answers)


def test_json_and_a_form_give_the_same_prediction(client: FlaskClient, poster: bytes) -> None:
    as_json = client.post("/api/v1/predict", json={"plot": PLOT, "poster": base64.b64encode(poster).decode()})
    as_form = client.post("/api/v1/predict", data={"plot": PLOT, "poster": _file(poster)})
    in_lines = client.post("/api/v1/predict", json={"plot": PLOT, "poster": base64.encodebytes(poster).decode()})
    assert as_json.status_code == 200
    assert as_json.json == as_form.json == in_lines.json
    assert as_json.json["inputs"] == ["plot", "poster"]
    assert as_json.json["abstained"] is not as_json.json["sure"]


def test_explain_returns_the_prediction_with_its_explanation(client: FlaskClient) -> None:
    predicted = client.post("/api/v1/predict", json={"plot": PLOT}).json
    explained = client.post("/api/v1/explain", json={"plot": PLOT, "genres": ["Krimi"]}).json  # Crime in German
    assert explained["explanation"]["genres"] == ["Crime"]
    assert predicted["explanation"] is None
    assert explained["genres"] == predicted["genres"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b'{"plot": NaN}', "application/json", 422),
        (b'{"plot": 1e999}', "application/json", 422),
        (b'{"plot": "\\ud800"}', "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{}", "application/json", 422),
        (b'{"poster": "not base64!"}', "application/json", 422),
        (b'{"poster": "AAAA"}', "application/json", 422),
        (b'{"plot": "a", "genres": ["Nonsense"], "explain": true}', "application/json", 422),
        (b"plot=a", "text/plain", 415),
        (b"plot", "", 415),
        (b"--x\r\n", "multipart/form-data", 422),
        (b"title=a", "application/x-www-form-urlencoded", 422),
    ],
)
def test_an_invalid_request_gets_its_status_and_one_line(
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
        ("explain", {"plot": "a", "genres": ["Crim"]}, "this model has no genre 'Crim'; did you mean 'Crime'?"),
        ("batch", [{"plot": "a"}], "the body must be an object of keys and values"),
        ("batch", {"films": []}, "films: must have at least 1 item"),
        (
            "batch",
            {"films": [{"plott": "a"}]},
            "films.0.plott: there is no such key; did you mean 'plot'? known: plot, title, poster, id",
        ),
    ],
)
def test_an_invalid_request_is_explained_in_plain_words(
    client: FlaskClient, path: str, value: object, message: str
) -> None:
    assert client.post(f"/api/v1/{path}", json=value).json == {"error": message}


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
    many = {f"f{i}": "x" for i in range(100)}
    assert client.post("/api/v1/predict", data=many, content_type="multipart/form-data").status_code == 413


def test_the_page_offers_and_the_api_takes_every_format_that_is_read(client: FlaskClient) -> None:
    assert f'accept="{",".join(READERS)}"' in client.get("/tables").text
    answer = client.post("/api/v1/batch", data={"file": _file(b"id\tplot\n1\ta ghost\n", "films.TAB")})
    assert answer.status_code == 202
    named = {"file": _file(b"id,story\n1,a ghost\n", "films.csv"), "columns": "plot = story"}
    assert client.post("/api/v1/batch", data=named).status_code == 202
    answer = client.post("/api/v1/batch", data={"file": _file(b"", "films.csv"), "columns": "story"})
    assert (answer.status_code, answer.json["error"][:16]) == (422, "columns: must be")
    for name in ("films.docx", "films.csv.exe", "films"):
        answer = client.post("/api/v1/batch", data={"file": _file(b"PK", name)})
        assert answer.status_code == 415 and ".tab" in answer.json["error"]


def test_a_batch_answers_each_film_in_order_and_no_bad_film_stops_it(client: FlaskClient) -> None:
    films = [{"id": "a", "plot": PLOT}, {"id": "b"}, {"id": "c", "poster": "?"}, {"plot": "A haunted village"}]
    answer = client.post("/api/v1/batch", json={"films": films}).json["predictions"]
    assert [film["id"] for film in answer] == ["a", "b", "c", None]
    assert [film["error"] is None for film in answer] == [True, False, False, True]
    assert answer[3]["prediction"]["genres"] == ["Horror"]


def test_an_unknown_path_or_method_is_json_for_programs_and_a_page_for_people(client: FlaskClient) -> None:
    assert "error" in client.get("/nowhere").json
    answer = client.get("/api/v1/predict")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    page = client.get("/nowhere", headers={"Accept": "text/html,application/xml;q=0.9,*/*;q=0.8"})
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "This address does not exist." in page.text


def test_an_api_key_is_required_if_one_is_set(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle, Settings(api_key="secret")).test_client()
    missing = client.post("/predict", json={"plot": PLOT})
    wrong = client.post("/predict", json={"plot": PLOT}, headers={"Authorization": "Bearer other"})
    assert (missing.status_code, wrong.status_code) == (401, 401)
    assert missing.headers["WWW-Authenticate"].startswith("Bearer")
    assert missing.json != wrong.json
    assert set(client.get("/openapi.json").json["components"]["securitySchemes"]) == {"bearer", "header"}
    for headers in ({"Authorization": "Bearer secret"}, {"X-API-Key": "secret"}):
        assert client.post("/predict", json={"plot": PLOT}, headers=headers).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_an_address_that_tries_many_keys_has_to_wait(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle, Settings(api_key="secret")).test_client()
    statuses = [client.delete("/api/v1/batch/x", headers={"X-API-Key": f"guess {n}"}).status_code for n in range(25)]
    assert statuses == [401] * 20 + [429] * 5
    assert client.delete("/api/v1/batch/x", headers={"X-API-Key": "secret"}).headers["Retry-After"] == "60"
    other = {"REMOTE_ADDR": "192.0.2.7"}
    right = client.delete("/api/v1/batch/x", headers={"X-API-Key": "secret"}, environ_overrides=other)
    assert right.status_code == 404


def test_pages_and_static_files_are_compressed_and_not_sent_again(client: FlaskClient) -> None:
    packed = {"Accept-Encoding": "gzip"}
    page = client.get("/api/v1/model", headers=packed)
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert page.headers["Content-Encoding"] == "gzip"
    again = client.get("/api/v1/model", headers={**packed, "If-None-Match": page.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    script = re.search(r'src="(/static/\w+/)film\.js"', client.get("/").text)
    assert script
    with client.get(f"{script[1]}common.js") as imported, client.get("/static/other/common.js") as other_version:
        assert "immutable" in imported.headers["Cache-Control"]
        assert other_version.status_code == 404


def test_more_requests_than_the_rate_are_429_with_a_time_to_wait(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle, Settings(rate=0.01, burst=2)).test_client()
    answers = [client.post("/predict", json={"plot": PLOT}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["Retry-After"]) > 1
    assert answers[0].headers["X-RateLimit-Remaining"] == "1"
    client = create_app(tiny_bundle, Settings(rate=100, burst=2)).test_client()
    assert {client.post("/predict", json={"plot": PLOT}).status_code for _ in range(5)} == {200}


def test_metrics_count_requests_predictions_and_abstentions(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle, Settings()).test_client()
    client.post("/predict", json={"plot": PLOT})
    client.post("/predict", json={"plot": "of the and"})
    client.post("/api/v1/predict", json={})
    client.get("/healthz")
    page = client.get("/metrics").text
    assert 'mmgcs_requests_total{method="POST",route="/predict",status="200"} 2.0' in page
    assert 'mmgcs_predictions_total{inputs="plot"} 2.0' in page
    assert "mmgcs_requests_in_flight 1.0" in page
    assert 'mmgcs_request_duration_seconds_count{route="/predict"} 2.0' in page
    assert f'mmgcs_build_info{{model="{client.get("/api/v1/model").json["name"]}",version=' in page
    assert "process_resident_memory_bytes" in page
    assert "mmgcs_queued_films 0.0" in page
    assert 'mmgcs_requests_rejected_total{reason="invalid"} 1.0' in page
    assert "_created" not in page
    assert "/healthz" not in page
    assert "mmgcs_batch_films_count 3.0" in page
    abstained = re.findall(r'mmgcs_abstentions_total\{genre="(\w+)"\} (\S+)', page)
    assert [float(count) for _, count in abstained] == [1.0]


def test_the_log_has_a_request_id_and_nothing_that_a_user_wrote(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "mmgcs.web"):
        client.post("/predict", json={"plot": "sesame"}, headers={"X-Request-ID": "abc-1"})
        client.post("/sesame%0Aline", headers={"X-Request-ID": "evil id"})
    lines = [JsonLines().format(record) for record in caplog.records]
    assert [json.loads(line)["request_id"] == "abc-1" for line in lines] == [True, False]
    assert not any("sesame" in line or "evil" in line or "\n" in line for line in lines)

    for wish in ("a" * 65, 'a"b', "ä", "", '{"level": "error"}'):  # a request id that could confuse a log is replaced
        assert client.get("/healthz", headers={"X-Request-ID": wish}).headers["X-Request-ID"].isalnum()


@pytest.mark.parametrize("name", ["waitress", "mmgcs.web.app"])  # the second is Flask's own
def test_records_of_the_http_server_keep_only_their_place(name: str) -> None:
    try:
        raise ValueError("sesame")
    except ValueError as error:
        trace = (type(error), error, error.__traceback__)
        message, values = "Invalid request from ip=%s: %s", ("sesame", error)
        record = logging.LogRecord(name, logging.ERROR, "channel.py", 7, message, values, trace)
    kept = JsonLines().format(record)
    assert "sesame" not in kept
    found = json.loads(kept)
    assert (found["from"], found["kind"]) == (f"{name} channel.py:7", "ValueError")
    assert found["where"].startswith("test_api.py:")


def test_the_description_has_every_endpoint_with_an_id_and_a_meaning_for_every_field(client: FlaskClient) -> None:
    described = client.get("/openapi.json").json
    served = {re.sub("<([a-z_]+)>", r"{\1}", rule.rule) for rule in client.application.url_map.iter_rules()}
    pages = {"/", "/tables", "/model", "/scores", "/data", "/api", "/about", "/samples.csv", "/openapi.json"}
    assert {rule for rule in served - pages if not rule.startswith(("/static", "/samples"))} == set(described["paths"])
    operations = [operation for methods in described["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    page = client.get("/api").text
    assert {path for path in described["paths"] if f"<code>{path}</code>" not in page} == set()
    for name, schema in described["components"]["schemas"].items():
        assert f'id="schema-{name}"' in page
        assert all(field.get("description") for field in schema["properties"].values()), name
