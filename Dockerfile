# The service as an image: `docker build -t credit-ledger .`, then
#   docker run --env-file ledger.env -p 8080:8080 credit-ledger            serve
#   docker run --env-file ledger.env credit-ledger migrate                 before the first start and each upgrade
# PostgreSQL and NATS are servers of your own (docs/how-to/run-against-your-own-servers.md).

FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /opt/ledger
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN /opt/ledger/bin/pip install --no-cache-dir -r requirements/runtime.txt && \
    pip install --no-cache-dir -r requirements/build.txt
COPY pyproject.toml LICENSE README.md ./
COPY events events
COPY projections projections
COPY service service
COPY migrations migrations
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . && \
    /opt/ledger/bin/pip install --no-cache-dir --no-deps dist/*.whl

FROM python:3.11-slim
COPY --from=build /opt/ledger /opt/ledger
ENV PATH=/opt/ledger/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LEDGER_HTTP_HOST=0.0.0.0 \
    LEDGER_OPERATIONS_PORT=9090
USER 10001
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9090/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["credit-ledger"]
CMD ["serve"]
