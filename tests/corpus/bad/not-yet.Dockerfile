# check=error=true
FROM --platform=$BUILDPLATFORM base
RUN --mount=type=cache,target=/root/.cache make
RUN <<EOF
FROM inside a here-document, this is no instruction
EOF
ADD https://example.org/a.tar.gz /a
COPY --link --from=x a b
HEALTHCHECK CMD true
ONBUILD RUN make
