# The operator's image. The engine's is worker_image/Dockerfile.
FROM python:3.11.14-slim-bookworm AS build
COPY requirements.txt /build/
RUN python -m venv /opt/operator \
    && /opt/operator/bin/pip install --no-cache-dir --require-hashes -r /build/requirements.txt
COPY operator/shift_operator /opt/operator/lib/python3.11/site-packages/shift_operator

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/operator /opt/operator
USER 65532:65532
ENTRYPOINT ["/opt/operator/bin/python", "-m", "shift_operator.controller"]
