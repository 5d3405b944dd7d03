# `mmgcs serve` as an image: prediction and the default model, without torch. It only needs to write to /tmp.
#   docker build -t mmgcs . && docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:10000:10000 mmgcs
FROM python:3.13-slim AS build
RUN python -m venv /opt/mmgcs
# Pinned by version and SHA-256; see `make lock`.
COPY deploy/requirements.txt /src/
RUN /opt/mmgcs/bin/python -m pip install --no-cache-dir --require-hashes --requirement /src/requirements.txt
COPY pyproject.toml README.md LICENSE /src/
COPY recipes /src/recipes
COPY src /src/src
RUN /opt/mmgcs/bin/python -m pip install --no-cache-dir --no-deps /src
# Nothing is installed after this.
RUN /opt/mmgcs/bin/python -m pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/mmgcs /opt/mmgcs
# One malloc arena: with one per thread, glibc keeps memory that threads have freed.
ENV PATH=/opt/mmgcs/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=1 PORT=10000
USER 10001:10001
WORKDIR /tmp
EXPOSE 10000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/readyz', timeout=4)"]
CMD ["mmgcs", "serve", "--host", "0.0.0.0"]
