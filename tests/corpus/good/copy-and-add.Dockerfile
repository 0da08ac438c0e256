ARG OWNER=7
FROM base AS other
FROM base
ARG OWNER MODE=u=rwX,go=rX
WORKDIR /app
COPY --link --chown=$OWNER:8 --chmod=$MODE src ./
COPY --parents --exclude=**/*.md --exclude=docs a/./b/*.c c/**/d .
COPY --from=other --link=false /x /y
COPY --from=0 ["a b", "c d/"]
COPY --from=certs:latest . .
ADD local.tar.gz dir /unpacked/
ADD --unpack=false local.tar.gz /kept/
ADD --unpack=true https://example.org/a.tar.gz?x=1 /b/
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://example.org/a /a
ADD --keep-git-dir=true --checksum=0123abc https://example.org/r.git#main:sub /r
ADD --chown=1 --chmod=755 --link --exclude=x git@example.org:r.git?ref=v1 ssh://git@example.org/s /s/
