# tfapp for one kind of device, cpu, gpu or tpu:
#     docker build --build-arg DEVICE=cpu -t tfapp:cpu .
#     docker run --rm -v tfapp-runs:/runs tfapp:cpu train digits
# docs/docker.md tells the rest. The pins are those of tools/constraints.txt, which tests and set-up use as well.
FROM python:3.11-slim AS python
ENV LANG=C.UTF-8 PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# The slim base leaves its own bytecode out, and an ordinary user cannot write it.
RUN python -m compileall -q -j 0 -x "/(test|idlelib|lib2to3|site-packages)/" /usr/local/lib/python3.11

# A layer of its own: an edit of the source never comes here.
FROM python AS dependencies
ARG DEVICE=cpu
WORKDIR /build
COPY setup.cfg ./
COPY tools/constraints.txt tools/constraints-${DEVICE}.txt tools/
COPY tools/docker/requirements.py tools/docker/
RUN python tools/docker/requirements.py "$DEVICE" /build && python -m venv --without-pip /opt/tfapp
# Bytecode is compiled as pip installs: each start would otherwise take seconds more. What goes again is never used where
# a model is trained, and is a fifth of the whole: C++ headers, libclang, the packages' own tests.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/tfapp/bin/python install --compile -r requirements.txt -c constraints.txt \
    && find /opt/tfapp -type d \( -name tests -o -path "*/tensorflow/include" -o -path "*/pyarrow/include" \
        -o -path "*/clang/native" \) -prune -exec rm -r {} +

FROM dependencies AS wheel
COPY pyproject.toml setup.cfg setup.py README.md ./
COPY tfapp tfapp
COPY recipes recipes
RUN pip --python /opt/tfapp/bin/python wheel --no-deps --no-build-isolation --no-cache-dir -w /wheels .

FROM python AS image
ARG DEVICE=cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tfapp" \
    org.opencontainers.image.description="Train Keras models from recipes, measured and exported (${DEVICE})" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=dependencies /opt/tfapp /opt/tfapp
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip --python /opt/tfapp/bin/python install --compile --no-deps --no-index --no-cache-dir /wheels/*.whl \
    && pip --python /opt/tfapp/bin/python check \
    && install -d -m 1777 /runs && install -d /data /recipes
# HOME is where anybody may write, whoever runs this; the NVIDIA variables are how the container toolkit is asked for
# the driver, which this base does not do by itself.
ENV PATH=/opt/tfapp/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib \
    TFAPP_RUNS=/runs TFAPP_RECIPES=/recipes \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /data
VOLUME ["/data", "/runs"]
ENTRYPOINT ["tfapp"]
CMD ["--help"]

# docker build --target smoke . proves that the image works: every import, a real fit, a finished run, its exports.
FROM image AS smoke
# Without the variable libtpu would wait for the metadata of a TPU VM, and this need not be one.
RUN --mount=type=bind,source=tools/docker/smoke.py,target=/smoke.py TPU_SKIP_MDS_QUERY=1 python /smoke.py

FROM image
