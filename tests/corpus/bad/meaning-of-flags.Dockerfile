FROM base
COPY --chmod=u=rwQ a b
COPY https://example.org/a b
COPY git@example.org:a b
ADD --checksum=sha256:12 https://example.org/a b
ADD --checksum=0123abc a b
ADD --checksum=0123abcd https://example.org/a.git https://example.org/b.git c/
RUN --mount=type=ssh,uid=root make
