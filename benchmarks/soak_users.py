"""What the users of `soak.py` do: all kinds of requests, good and bad, each with the status it should get."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from gevent.lock import BoundedSemaphore
from locust import HttpUser, constant, task

from mmgcs.sample import sample_films, sample_table

PLOTS = [film.plot for film in sample_films() if film.plot]
POSTERS = [film.poster.read_bytes() for film in sample_films() if isinstance(film.poster, Path)]
TABLES = BoundedSemaphore(3)
"""One fewer than the server accepts at once; beyond that it answers 503, as it should."""


class Someone(HttpUser):
    wait_time = constant(0)

    def ask(self, method: str, path: str, due: int, name: str = "", **content: Any) -> Any:
        name = name or path
        with self.client.request(method, path, name=name, catch_response=True, **content) as answer:
            if answer.status_code == due:
                answer.success()
            else:
                answer.failure(f"{answer.status_code} instead of {due}")
        return answer

    @task(50)
    def plot(self) -> None:
        self.ask("POST", "/predict", 200, json={"plot": random.choice(PLOTS)})

    @task(10)
    def poster(self) -> None:
        self.ask("POST", "/predict_image", 200, files={"poster": random.choice(POSTERS)})

    @task(2)
    def explained(self) -> None:
        form, files = {"plot": random.choice(PLOTS)}, {"poster": random.choice(POSTERS)}
        self.ask("POST", "/api/v1/explain", 200, data=form, files=files)

    @task(5)
    def several(self) -> None:
        films = [{"plot": plot} for plot in random.sample(PLOTS, 8)]
        self.ask("POST", "/api/v1/batch", 200, json={"films": films})

    @task(5)
    def open_inference(self) -> None:
        tensor = {"name": "plot", "datatype": "BYTES", "shape": [1], "data": [random.choice(PLOTS)]}
        self.ask("POST", "/v2/models/mmgcs/infer", 200, json={"inputs": [tensor]})

    @task(1)
    def table(self) -> None:
        with TABLES:
            self.tag()

    def tag(self) -> None:
        job = self.ask(
            "POST",
            "/api/v1/batch",
            202,
            "/api/v1/batch table",
            files={"file": ("films.csv", sample_table().read_bytes())},
        )
        path = f"/api/v1/batch/{job.json()['id']}"
        while self.ask("GET", path, 200, "/api/v1/batch/{id}").json()["state"] in ("waiting", "running"):
            time.sleep(0.2)
        self.ask("GET", f"{path}/result", 200, "/api/v1/batch/{id}/result")
        self.ask("DELETE", path, 204, "/api/v1/batch/{id} forgotten")

    @task(4)
    def page(self) -> None:
        self.ask("GET", random.choice(["/", "/scores", "/data", "/api", "/metrics", "/healthz"]), 200)

    @task(4)
    def broken(self) -> None:
        self.ask("POST", "/predict", 400, "/predict broken", data=b"{", headers={"Content-Type": "application/json"})

    @task(4)
    def no_picture(self) -> None:
        self.ask("POST", "/predict_image", 400, "/predict_image no picture", files={"poster": b"<html>"})

    @task(4)
    def nothing(self) -> None:
        self.ask("POST", "/api/v1/predict", 422, "/api/v1/predict nothing", json={})
        self.ask("GET", "/nowhere", 404)
