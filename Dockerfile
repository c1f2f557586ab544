# samjax from its wheel. First `make package`, then:
#   docker build -t samjax .                            (CPU)
#   docker build -t samjax --build-arg EXTRAS=cuda12,serve .
#   docker run --rm -v "$PWD:/data" samjax predict --input CASE --output OUT
# For NVIDIA GPUs add --gpus all; to write into a mounted folder, --user "$(id -u):$(id -g)".
ARG PYTHON=3.12-slim

FROM python:${PYTHON} AS build
ARG EXTRAS=serve
COPY dist/*.whl /wheels/
RUN python -m venv /opt/samjax \
    && wheel="$(ls /wheels/samjax-*.whl)" \
    && /opt/samjax/bin/pip install --no-cache-dir "${wheel}[${EXTRAS}]"

FROM python:${PYTHON}
RUN useradd --create-home --uid 1000 samjax && mkdir /data && chown samjax /data
COPY --from=build /opt/samjax /opt/samjax
# HOME can be written by any --user: the cache lies in it.
ENV PATH=/opt/samjax/bin:$PATH HOME=/tmp/samjax
USER 1000
WORKDIR /data
ENTRYPOINT ["samjax"]
CMD ["--help"]
